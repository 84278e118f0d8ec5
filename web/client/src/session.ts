/**
 * The sync core: one person's chats over any number of connections.
 *
 * ```text
 *   frames ──▶ receive ──▶ cursor (in order) ──▶ log, notes, unread, receipts
 *                      └─▶ typing, presences
 *   clock  ──▶ tick    ──▶ resume · marks · outbox          ──▶ effects: frames to send, things to fetch
 * ```
 *
 * It does no I/O and reads no clock: time and randomness come in, effects go out. Whoever drives it sends
 * the frames, fetches what is asked for, and hands the answers back.
 */
import { ChatState, isMessage, type ChatRow, type MemberRow, type Sequenced } from './chat-state.ts';
import type { ChatHead, ClientFrame, Hello, Marked, MessageEvent, Refusal, ServerFrame } from './frames.ts';
import { Marks } from './marks.ts';
import type { HistoryPage } from './message-log.ts';
import { commandFrame } from './commands.ts';
import { Outbox, type Entry } from './outbox.ts';
import { Presences } from './presences.ts';
import { ResumePlanner } from './resume-planner.ts';
import { Typing } from './typing.ts';

/** What the driver must do, in order. */
export type Effect =
  | { do: 'send'; frame: ClientFrame }
  /** Something to draw anew: one chat, and with it the list of chats. */
  | { do: 'changed'; chatId: string }
  /** A person came or went, or it is no longer known: to draw anew wherever they are shown. */
  | { do: 'presence'; userId: string }
  /** An event is next in its chat's order: each is told once. */
  | { do: 'event'; event: Sequenced }
  /** The list of chats must be fetched: a chat isn't described, or much was missed. */
  | { do: 'fetch_chats' }
  /** What was held of this chat is forgotten: it missed too much, or history is another one. If any was loaded, the newest page must be fetched. */
  | { do: 'restarted'; chatId: string; wasLoaded: boolean }
  | { do: 'fresh_token' }
  | { do: 'reconnect'; afterMs: number };

/** Enough for a page, which shows what is newest and reads the rest when somebody scrolls. */
const REPLAY_LIMIT = 500;
/** Chats in one resume frame. */
const CURSORS_PER_FRAME = 200;

export interface SessionOptions {
  /** Events of a chat missed beyond which it starts anew at its head, and what is between is read by pages. */
  replayLimit?: number;
}

export class Session {
  readonly chats = new Map<string, ChatState>();
  readonly outbox = new Outbox();
  readonly presences = new Presences();
  readonly typing = new Typing();
  readonly #marks = new Marks();
  readonly #planner = new ResumePlanner();
  readonly #replayLimit: number;
  #me = '';
  #hello: Hello | null = null;
  #epoch: string | number | null = null;
  #announced: Set<string> | null = null;
  #sends = true;

  constructor({ replayLimit = REPLAY_LIMIT }: SessionOptions = {}) {
    this.#replayLimit = replayLimit;
  }

  /** The person's user id; empty until the first `hello` tells it. */
  get me(): string {
    return this.#me;
  }

  /** What the server said at the start of the present connection, or `null` without one. */
  get hello(): Hello | null {
    return this.#hello;
  }

  /** All announced chats have come: the session is in step. */
  get ready(): boolean {
    return this.#hello !== null && this.#announced === null;
  }

  /** Whether this client sends what is in the outbox, or leaves that to another tab. */
  set sends(sends: boolean) {
    this.#sends = sends;
  }

  /** Takes one frame. */
  receive(frame: ServerFrame, now: number, random: number): Effect[] {
    switch (frame.event) {
      case 'hello':
        return this.#greeted(frame.payload);
      case 'chats':
        return this.#announce(frame.payload.chats ?? [], frame.payload.complete, now);
      case 'message':
      case 'message_edited':
      case 'message_deleted':
        return this.#sequenced({ seq: frame.payload.seq, kind: frame.event, payload: frame.payload }, now);
      case 'member_joined':
      case 'member_left':
      case 'member_updated':
      case 'chat_created':
      case 'chat_updated':
        return this.#sequenced({ seq: frame.payload.seq, kind: frame.event, payload: frame.payload }, now);
      case 'skipped': {
        const { chat_id, from_seq, to_seq } = frame.payload;
        const chat = this.#chat(chat_id, from_seq - 1);
        return this.#apply(chat, chat.cursor.skip(from_seq, to_seq), now);
      }
      case 'unknown': {
        const { chat_id, seq } = frame.payload;
        if (typeof chat_id !== 'string' || typeof seq !== 'number') return [];
        const chat = this.#chat(chat_id, seq - 1);
        return this.#apply(chat, chat.cursor.pass(seq), now);
      }
      case 'heads':
        for (const [chatId, head] of Object.entries(frame.payload)) {
          const chat = this.chats.get(chatId);
          chat?.cursor.observeHead(head);
          if (chat) this.#note(chat, now);
        }
        return [];
      case 'resumed': {
        const { chat_id, from_seq, to_seq, complete } = frame.payload;
        const chat = this.chats.get(chat_id);
        if (chat === undefined) return [];
        // Nothing more of the chat comes, not even what is new, until it is resumed again.
        if (!complete) this.#planner.cutShort(chat_id, chat.cursor.cursor, to_seq > from_seq, now);
        else this.#note(chat, now);
        return [];
      }
      case 'receipt':
        return this.#receipt(frame.payload, now);
      case 'typing': {
        const { chat_id, user_id } = frame.payload;
        if (user_id === this.me || !this.chats.has(chat_id)) return [];
        return this.typing.heard(chat_id, user_id, now) ? [{ do: 'changed', chatId: chat_id }] : [];
      }
      case 'presence': {
        const { chat_id, users } = frame.payload;
        const news = Object.entries(users).filter(([id, presence]) => id !== this.me && this.presences.heard(chat_id, id, presence));
        return news.map(([userId]) => ({ do: 'presence', userId }));
      }
      case 'ack':
        if (frame.id !== undefined) this.outbox.acked(frame.id, frame.payload.state, frame.payload.seq, now);
        return [];
      case 'error':
        return this.#refused(frame.id ?? frame.payload.message_id, frame.payload, now, random);
      case 'token_expiring':
        return [{ do: 'fresh_token' }];
      case 'reconnect':
        return [{ do: 'reconnect', afterMs: frame.payload.after_ms ?? 0 }];
    }
  }

  /** What the time that passed asks for: resumes, marks, commands, lines of typing to take away. Nothing without a connection in step. */
  tick(now: number): Effect[] {
    if (!this.ready) return [];
    const effects: Effect[] = this.#resumes(this.#planner.due(now));
    if (this.#sends) {
      this.outbox.tick(now);
      for (const entry of this.outbox.pump(now)) effects.push(...this.#command(entry, now));
    }
    for (const kind of ['mark_delivered', 'mark_read'] as const) {
      const marks = this.#marks.due(kind, now);
      if (marks) effects.push({ do: 'send', frame: { event: kind, payload: { marks } } });
    }
    for (const chatId of this.typing.expire(now)) effects.push({ do: 'changed', chatId });
    return effects;
  }

  /** The connection is gone. Chats, cursors and messages stay; who is there and who types was only true with it. */
  disconnected(): Effect[] {
    this.#hello = null;
    this.#announced = null;
    this.#planner.disconnected();
    this.#marks.disconnected();
    this.outbox.disconnected();
    return [
      ...this.typing.disconnected().map((chatId): Effect => ({ do: 'changed', chatId })),
      ...this.presences.disconnected().map((userId): Effect => ({ do: 'presence', userId })),
    ];
  }

  /** Takes the list of chats as HTTP gives it. */
  describe(rows: ChatRow[]): Effect[] {
    return rows.map((row): Effect => {
      const chat = this.#chat(row.chat_id, row.head_seq);
      chat.describe(row, this.me);
      this.#marks.adopt(row.chat_id, row);
      return { do: 'changed', chatId: row.chat_id };
    });
  }

  /** Takes a page of history: the newest, or the one before what is loaded. */
  history(chatId: string, page: HistoryPage, now: number): Effect[] {
    const chat = this.chats.get(chatId);
    if (chat === undefined) return [];
    const first = !chat.log.loaded;
    // The newest page may be older than where live events began: what is between comes by a resume.
    if (first && page.as_of_seq + 1 < chat.log.floor) chat.cursor.rewind(page.as_of_seq);
    chat.log.merge(page);
    for (const state of page.messages) this.outbox.seen(state, page.as_of_seq);
    this.#note(chat, now);
    return [{ do: 'changed', chatId }];
  }

  /** Takes a page that doesn't join what is loaded: messages that others quote. */
  learn(chatId: string, page: HistoryPage): Effect[] {
    this.chats.get(chatId)?.log.learn(page);
    return [{ do: 'changed', chatId }];
  }

  /** Takes a page of a chat's members with how far each has read; the first page replaces what was known. */
  members(chatId: string, rows: readonly MemberRow[], isFirst: boolean, now: number): Effect[] {
    const chat = this.chats.get(chatId);
    if (chat === undefined) return [];
    chat.meet(rows, isFirst);
    for (const row of rows) if (row.user_id !== this.me) chat.receipt(row.user_id, row, now);
    return [{ do: 'changed', chatId }];
  }

  /** The person has seen a chat up to its last loaded event. */
  read(chatId: string): Effect[] {
    const chat = this.chats.get(chatId);
    if (chat === undefined || chat.cursor.cursor <= chat.readSeq) return [];
    chat.read(chat.cursor.cursor, this.me);
    this.#marks.want('mark_read', chatId, chat.readSeq);
    return [{ do: 'changed', chatId }];
  }

  /** The person types in a chat. Told while it is of use: not later, and not of a chat that the server doesn't have. */
  typed(chatId: string, now: number): Effect[] {
    if (!this.ready || !this.chats.get(chatId)?.isMember || !this.typing.due(chatId, now)) return [];
    return [{ do: 'send', frame: { event: 'typing', payload: { chat_id: chatId } } }];
  }

  #greeted(hello: Hello): Effect[] {
    const otherHistory = this.#epoch !== null && this.#epoch !== hello.epoch;
    this.#hello = hello;
    this.#me = hello.user_id;
    this.#epoch = hello.epoch;
    this.#announced = new Set();
    if (!otherHistory) return [];
    // Numbers of another epoch mean other events: nothing that is held can be trusted.
    const restarted = [...this.chats.values()].map(({ chatId, log }): Effect => ({ do: 'restarted', chatId, wasLoaded: log.loaded }));
    this.chats.clear();
    return [{ do: 'fetch_chats' }, ...restarted];
  }

  #announce(heads: ChatHead[], complete: boolean, now: number): Effect[] {
    const effects: Effect[] = [];
    let fetch = false;
    for (const head of heads) {
      this.#announced?.add(head.chat_id);
      const known = this.chats.get(head.chat_id);
      const chat = known ?? this.#chat(head.chat_id, head.head_seq);
      chat.visible = head.visible;
      this.#marks.adopt(head.chat_id, head);
      chat.read(head.read_seq, this.me);
      const missed = head.head_seq - chat.cursor.cursor;
      if (missed > this.#replayLimit || missed < 0) {
        effects.push({ do: 'restarted', chatId: head.chat_id, wasLoaded: chat.log.loaded });
        chat.restart(head.head_seq);
        fetch = true;
      } else if (missed > 0) {
        chat.cursor.observeHead(head.head_seq);
        this.#planner.askNow(head.chat_id, chat.cursor.cursor);
      }
      this.#marks.want('mark_delivered', head.chat_id, chat.cursor.cursor);
      fetch ||= !chat.described;
      effects.push({ do: 'changed', chatId: head.chat_id });
    }
    if (complete && this.#announced !== null) {
      for (const chatId of this.chats.keys()) if (!this.#announced.has(chatId)) this.chats.delete(chatId);
      this.#announced = null;
    }
    if (fetch) effects.push({ do: 'fetch_chats' });
    effects.push(...this.tick(now));
    return effects;
  }

  #sequenced(event: Sequenced, now: number): Effect[] {
    const chat = this.#chat(event.payload.chat_id, event.seq - 1);
    return this.#apply(chat, chat.cursor.offer(event), now);
  }

  #apply(chat: ChatState, events: Sequenced[], now: number): Effect[] {
    const effects: Effect[] = [];
    for (const event of events) {
      if (isMessage(event)) this.#message(chat, event.payload, now);
      else chat.applyChange(event.kind, event.payload, this.me);
      if (chat.isNews(event.seq)) effects.push({ do: 'event', event });
    }
    this.#note(chat, now);
    this.#marks.want('mark_delivered', chat.chatId, chat.cursor.cursor);
    if (!chat.described) effects.push({ do: 'fetch_chats' });
    if (events.length > 0) effects.push({ do: 'changed', chatId: chat.chatId });
    // While events of the past come again, one that was left may have been joined again since.
    if (!chat.isMember && !chat.cursor.behind) effects.push(...this.#left(chat.chatId));
    return effects;
  }

  /** Who is there and who types is told to members only: without them, what was told last would stay for ever. */
  #left(chatId: string): Effect[] {
    this.typing.left(chatId);
    return this.presences.left(chatId).map((userId) => ({ do: 'presence', userId }));
  }

  #message(chat: ChatState, event: MessageEvent, now: number): void {
    chat.applyMessage(event, this.me, now);
    this.outbox.seen(event, event.seq);
    if (event.seq === event.message_seq) {
      if (event.sender_id === this.me) this.typing.sent(chat.chatId);
      else this.typing.ended(chat.chatId, event.sender_id);
    }
  }

  /** A command's frame. One over the limit would end the connection, and the next one: it is refused here. */
  #command(entry: Entry, now: number): Effect[] {
    const frame = commandFrame(entry);
    const limit = this.#hello?.limits.frame_bytes ?? Infinity;
    if (new TextEncoder().encode(JSON.stringify(frame)).length <= limit) return [{ do: 'send', frame }];
    return this.#refused(entry.op_id, { code: 'frame_too_big', message: `A message has room for less than ${limit} bytes.`, temporary: false }, now, 0);
  }

  #receipt(payload: { chat_id: string; users?: Record<string, Marked> }, now: number): Effect[] {
    const chat = this.chats.get(payload.chat_id);
    if (chat === undefined) return [];
    let changed = false;
    for (const [userId, marked] of Object.entries(payload.users ?? {})) {
      if (userId === this.me) {
        this.#marks.adopt(payload.chat_id, marked);
        chat.read(marked.read_seq, this.me);
        changed = true;
      } else {
        changed = chat.receipt(userId, marked, now) || changed;
      }
    }
    return changed ? [{ do: 'changed', chatId: payload.chat_id }] : [];
  }

  #refused(opId: string | undefined, refusal: Refusal, now: number, random: number): Effect[] {
    const effects: Effect[] = refusal.code === 'token_expired' ? [{ do: 'fresh_token' }] : [];
    const abandoned = opId === undefined ? null : this.outbox.refused(opId, refusal, now, random);
    if (abandoned === null) return effects;
    const { chat_id, message_id } = abandoned;
    return [...effects, { do: 'send', frame: { event: 'discard_message', payload: { chat_id, message_id } } }];
  }

  #resumes(chatIds: string[]): Effect[] {
    const effects: Effect[] = [];
    for (let i = 0; i < chatIds.length; i += CURSORS_PER_FRAME) {
      const cursors: Record<string, number> = {};
      for (const chatId of chatIds.slice(i, i + CURSORS_PER_FRAME)) {
        const chat = this.chats.get(chatId);
        if (chat) cursors[chatId] = chat.cursor.cursor;
      }
      effects.push({ do: 'send', frame: { event: 'resume', payload: { cursors, epoch: this.#epoch } } });
    }
    return effects;
  }

  #note(chat: ChatState, now: number): void {
    const { cursor, behind, gap } = chat.cursor;
    this.#planner.note(chat.chatId, { cursor, behind, gap }, now);
  }

  #chat(chatId: string, cursor: number): ChatState {
    let chat = this.chats.get(chatId);
    if (chat === undefined) {
      chat = new ChatState(chatId, Math.max(0, cursor));
      this.chats.set(chatId, chat);
    }
    return chat;
  }
}
