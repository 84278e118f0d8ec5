/** Everything that one chat is, on this client: what the server told, and what was counted from it. */
import { ChatCursor } from './chat-cursor.ts';
import type { Attachment, ChatEvent, Marked, MessageEvent, Visible } from './frames.ts';
import { MessageLog, type Message } from './message-log.ts';

type MessageKind = 'message' | 'message_edited' | 'message_deleted';
type ChangeKind = 'member_joined' | 'member_left' | 'member_updated' | 'chat_created' | 'chat_updated';

/** An event that takes a place in its chat's order. */
export type Sequenced =
  | { seq: number; kind: MessageKind; payload: MessageEvent }
  | { seq: number; kind: ChangeKind; payload: ChatEvent };

/** Tells messages from changes of the chat. */
export function isMessage(event: Sequenced): event is Extract<Sequenced, { kind: MessageKind }> {
  return event.kind.startsWith('message');
}

/** A line between messages: somebody came, went, renamed the chat. */
export interface Note {
  seq: number;
  kind: ChangeKind;
  actor_id: string | null;
  user_ids: string[];
  /** The role that was given. */
  role: string | null;
  name: string | null;
  at: string | null;
}

/** A row of `GET /v1/chats`. */
export interface ChatRow {
  chat_id: string;
  name: string | null;
  is_group: boolean;
  peer: { user_id: string; name: string } | null;
  head_seq: number;
  delivered_seq: number;
  read_seq: number;
  visible?: Visible;
  unread_count: number;
  /** The person's own role. */
  role?: string;
  /** Counted to 1,000. */
  member_count?: number;
  deleted_shown_as?: string;
  history_for_new_members?: boolean;
  last_message: LastMessage | null;
  last_activity_at: string | null;
}

/** A row of a chat's members. */
export interface MemberRow extends Marked {
  user_id: string;
  role: string;
  name: string | null;
}

/** As much of a message as a list of chats shows. */
export interface LastMessage {
  message_id: string;
  message_seq?: number;
  seq?: number;
  sender_id: string;
  content: string | null;
  attachments?: readonly Attachment[];
  created_at: string;
  deleted_at?: string | null;
}

/** A receipt as it arrived, to tell how long a delivery took. */
export interface Delivery {
  user_id: string;
  delivered_seq: number;
  at_ms: number;
}

const NOTES_LIMIT = 200;
const DELIVERIES_LIMIT = 500;

export class ChatState {
  readonly chatId: string;
  readonly cursor: ChatCursor<Sequenced>;
  readonly log: MessageLog;
  readonly receipts = new Map<string, Marked>();
  /** Roles of the members that are known; complete once all pages of them have come. */
  readonly members = new Map<string, string>();
  memberCount = 0;
  /** Rises with each event about members: a page that was asked for before is out of date. */
  membersVersion = 0;
  name: string | null = null;
  isGroup = false;
  peer: { user_id: string; name: string } | null = null;
  deletedShownAs = 'tombstone';
  historyForNewMembers = true;
  /** The person's own role. */
  role = 'member';
  visible: Visible = [[1, null]];
  readSeq = 0;
  unread = 0;
  lastActivityAt = '';
  /** `GET /v1/chats` has told about this chat. */
  described = false;
  notes: readonly Note[] = [];
  /** Others' receipts in the order they came; the oldest are forgotten. */
  deliveries: readonly Delivery[] = [];
  /** Up to which `seq` the server has counted `unread`; events after it are counted here. */
  #countedTo: number;
  /** Up to which `seq` events were told as news, or aren't any. */
  #toldTo: number;
  #last: LastMessage | null = null;

  constructor(chatId: string, cursor: number) {
    this.chatId = chatId;
    this.cursor = new ChatCursor(cursor);
    this.log = new MessageLog(cursor + 1);
    this.#countedTo = cursor;
    this.#toldTo = cursor;
  }

  /**
   * The latest message. What the log knows of it wins: a row of the chats list comes from a read model, which may not have
   * seen an edit or a delete yet, and a late body must not come back.
   */
  get lastMessage(): LastMessage | null {
    return (this.#last && this.log.latest(this.#last.message_id)) ?? this.#last;
  }

  /** This person is a member now. */
  get isMember(): boolean {
    const last = this.visible.at(-1);
    return last === undefined || last[1] === null;
  }

  /** Whether an event is news, which is so once: after a rewind events come again, and those before the first one are history. */
  isNews(seq: number): boolean {
    if (seq <= this.#toldTo) return false;
    this.#toldTo = seq;
    return true;
  }

  /** Takes a row of the chats list, which may be older than what events have told since. */
  describe(row: ChatRow, me: string): void {
    this.described = true;
    this.name = row.name;
    this.isGroup = row.is_group;
    this.peer = row.peer;
    if (row.visible) this.visible = row.visible;
    this.deletedShownAs = row.deleted_shown_as ?? this.deletedShownAs;
    this.historyForNewMembers = row.history_for_new_members ?? this.historyForNewMembers;
    this.readSeq = Math.max(this.readSeq, row.read_seq);
    if (row.head_seq >= this.cursor.cursor) {
      this.unread = row.unread_count;
      this.role = row.role ?? this.role;
      this.memberCount = row.member_count ?? this.memberCount;
      this.#countedTo = row.head_seq;
    } else {
      this.#recount(me);
    }
    if (row.last_message && seqOf(row.last_message) >= seqOf(this.#last)) this.#last = row.last_message;
    if (row.last_activity_at && row.last_activity_at > this.lastActivityAt) this.lastActivityAt = row.last_activity_at;
  }

  /** Applies a message event that the cursor let through. */
  applyMessage(event: MessageEvent, me: string, now: number): Message | null {
    const isSend = event.seq === event.message_seq;
    const counts = event.sender_id !== me && event.message_seq > this.readSeq;
    const before = this.log.get(event.message_id);
    const message = this.log.apply(event, now);
    if (counts && event.seq > this.#countedTo) {
      if (isSend && event.deleted_at === null) this.unread += 1;
      // Only a body that was counted can be taken off: an earlier tombstone was taken off already.
      if (!isSend && event.deleted_at !== null && !before?.deleted_at) this.unread = Math.max(0, this.unread - 1);
    }
    if (event.message_seq >= seqOf(this.#last)) this.#last = event;
    if (isSend && event.created_at > this.lastActivityAt) this.lastActivityAt = event.created_at;
    return message;
  }

  /** Applies a member or chat event that the cursor let through. */
  applyChange(kind: ChangeKind, event: ChatEvent, me: string): void {
    const renamed = event.name !== undefined && event.name !== this.name;
    if (event.name !== undefined) this.name = event.name;
    if (event.is_group !== undefined) this.isGroup = event.is_group;
    if (event.deleted_shown_as !== undefined) this.deletedShownAs = event.deleted_shown_as;
    if (event.history_for_new_members !== undefined) this.historyForNewMembers = event.history_for_new_members;
    this.#applyMembers(kind, event, me);
    const mine = event.memberships?.find(({ user_id }) => user_id === me);
    if (mine && kind === 'member_left') this.#leave(mine.left_seq ?? event.seq);
    if (mine && kind === 'member_joined' && !this.isMember) this.visible = [...this.visible, [mine.visible_from_seq, null]];
    const note: Note = {
      seq: event.seq,
      kind,
      actor_id: event.actor_id ?? null,
      user_ids: event.memberships?.map(({ user_id }) => user_id) ?? [],
      role: kind === 'member_updated' ? (event.memberships?.[0]?.role ?? null) : null,
      name: renamed ? (event.name ?? null) : null,
      at: event.occurred_at ?? null,
    };
    this.notes = [...this.notes.filter(({ seq }) => seq !== note.seq), note].slice(-NOTES_LIMIT);
    if (event.occurred_at && event.occurred_at > this.lastActivityAt) this.lastActivityAt = event.occurred_at;
  }

  /** This person has read up to `seq`, here or on another device. */
  read(seq: number, me: string): void {
    if (seq <= this.readSeq) return;
    this.readSeq = seq;
    this.#recount(me);
  }

  /** Merges another member's marks by maximum. Tells whether anything rose. */
  receipt(userId: string, marked: Marked, now: number): boolean {
    const known = this.receipts.get(userId) ?? { delivered_seq: 0, read_seq: 0 };
    const next = {
      delivered_seq: Math.max(known.delivered_seq, marked.delivered_seq),
      read_seq: Math.max(known.read_seq, marked.read_seq),
    };
    if (next.delivered_seq === known.delivered_seq && next.read_seq === known.read_seq) return false;
    if (next.delivered_seq > known.delivered_seq) {
      const delivery = { user_id: userId, delivered_seq: next.delivered_seq, at_ms: now };
      this.deliveries = [...this.deliveries, delivery].slice(-DELIVERIES_LIMIT);
    }
    this.receipts.set(userId, next);
    return true;
  }

  /** Takes a page of members; the first one replaces what was known. */
  meet(rows: readonly MemberRow[], isFirst: boolean): void {
    if (isFirst) this.members.clear();
    for (const { user_id, role } of rows) this.members.set(user_id, role);
  }

  /** Starts anew at `head`: too much was missed to be worth replaying. */
  restart(head: number): void {
    this.cursor.restart(head);
    this.log.restart(head + 1);
    this.notes = [];
    this.members.clear();
    this.membersVersion += 1;
    this.#countedTo = head;
    this.#toldTo = head;
  }

  #applyMembers(kind: ChangeKind, { seq, memberships = [] }: ChatEvent, me: string): void {
    if (memberships.length === 0) return;
    this.membersVersion += 1;
    for (const { user_id, role } of memberships) {
      if (kind === 'member_left') this.members.delete(user_id);
      else this.members.set(user_id, role);
      if (user_id === me) this.role = role;
    }
    if (seq <= this.#countedTo || kind === 'member_updated') return;
    this.memberCount += kind === 'member_left' ? -memberships.length : memberships.length;
  }

  #leave(seq: number): void {
    const last = this.visible.at(-1);
    if (last) this.visible = [...this.visible.slice(0, -1), [last[0], seq]];
  }

  #recount(me: string): void {
    if (this.readSeq >= this.cursor.head) this.unread = 0;
    else this.unread = this.log.countUnread(this.readSeq, me) ?? this.unread;
  }
}

/** The `seq` at which a message was sent; 0 for none. */
export function seqOf(message: LastMessage | null): number {
  return message?.message_seq ?? message?.seq ?? 0;
}
