/** From messages, notes and the outbox to the rows that a conversation shows, in blocks. Pure. */
import type { Attachment, Entry, Message, Note } from '@waltalkie/client';
import { messageText } from './attachments.ts';
import { dayNumber } from './times.ts';

/** How far an own message has come. */
export type Status = 'pending' | 'accepted' | 'persisted' | 'delivered' | 'read' | 'failed';

export interface MessageRow {
  kind: 'message';
  key: string;
  messageId: string;
  seq: number | null;
  sender: string;
  own: boolean;
  content: string | null;
  attachments: readonly Attachment[];
  deleted: boolean;
  edited: boolean;
  atMs: number;
  /** First and last of the sender's uninterrupted messages. */
  first: boolean;
  last: boolean;
  status: Status | null;
  failure: string | null;
  /** The command behind the status: a send, or a change that is on its way. */
  opId: string | null;
  /** What is on its way for this message, beside its own sending. */
  changing: 'edit' | 'delete' | null;
  newDay: boolean;
  unreadFrom: boolean;
  /** What it answers, and whether that can be shown. */
  parent: 'known' | 'deleted' | 'loading' | 'absent' | null;
  parentId: string | null;
  parentSeq: number | null;
  parentSender: string | null;
  parentText: string | null;
}

/** The parts of a row that tell what it answers. */
export type Quote = Pick<MessageRow, 'parent' | 'parentId' | 'parentSeq' | 'parentSender' | 'parentText'>;

export interface NoteRow {
  kind: 'note';
  key: string;
  note: Note;
  newDay: boolean;
  atMs: number;
}

export type Row = MessageRow | NoteRow;

/** Rows that are laid out together, or skipped together while they are far from the screen. */
export interface Block {
  key: string;
  rows: Row[];
}

export interface RowsInput {
  me: string;
  messages: readonly Message[];
  notes: readonly Note[];
  /** The chat's outbox entries in order. */
  entries: readonly Entry[];
  deliveredSeq: number;
  readSeq: number;
  hideDeleted: boolean;
  /** The first message that was unread when the chat was opened. */
  unreadFromSeq: number | null;
  /** Finds what a message answers. */
  quoted: (messageId: string, seq: number | null) => Message | 'loading' | 'absent';
}

const GROUP_MS = 5 * 60_000;
const BLOCK_SEQS = 40;
const QUOTED_CHARS = 300;
/** One and the same, so that rows without files stay as they are. */
const NONE: readonly Attachment[] = [];
const times = new WeakMap<Message, number>();

/** Makes blocks; gives back the ones of `before` that didn't change, so that only the rest is drawn. */
export function buildBlocks(input: RowsInput, before: Block[]): Block[] {
  const rows = [...sentRows(input), ...pendingRows(input)];
  group(rows);
  const known = new Map(before.map((block) => [block.key, block]));
  const blocks: Block[] = [];
  for (const row of rows) {
    const seq = row.kind === 'note' ? row.note.seq : row.seq;
    const key = seq === null ? 'pending' : `b${Math.floor(seq / BLOCK_SEQS)}`;
    const block = blocks.at(-1);
    if (block?.key === key) block.rows.push(row);
    else blocks.push({ key, rows: [row] });
  }
  return blocks.map((block) => reuse(block, known.get(block.key)));
}

function sentRows({ me, messages, notes, entries, deliveredSeq, readSeq, hideDeleted, unreadFromSeq, quoted }: RowsInput): Row[] {
  const changes = new Map<string, Entry>();
  for (const entry of entries) if (entry.kind !== 'send') changes.set(entry.message_id, entry);
  const floor = messages[0]?.message_seq ?? 0;
  const later = notes.filter(({ seq }) => seq >= floor);
  const rows: Row[] = [];
  let nextNote = 0;
  const notesBefore = (seq: number) => {
    for (let note = later[nextNote]; note && note.seq < seq; note = later[++nextNote]) rows.push(noteRow(note));
  };
  for (const message of messages) {
    if (hideDeleted && message.deleted_at !== null) continue;
    notesBefore(message.message_seq);
    const change = changes.get(message.message_id);
    const own = message.sender_id === me;
    const seen = message.message_seq <= readSeq ? 'read' : message.message_seq <= deliveredSeq ? 'delivered' : 'persisted';
    const status = change?.phase === 'failed' ? 'failed' : own && message.deleted_at === null ? seen : null;
    rows.push({
      kind: 'message',
      key: message.message_id,
      messageId: message.message_id,
      seq: message.message_seq,
      sender: message.sender_id,
      own,
      content: change?.kind === 'edit' && change.phase !== 'failed' ? change.content : message.content,
      attachments: message.deleted_at === null ? (message.attachments?.length ? message.attachments : NONE) : NONE,
      deleted: message.deleted_at !== null,
      edited: message.edited_at !== null,
      atMs: timeOf(message),
      first: true,
      last: true,
      status,
      failure: change?.failure?.message ?? null,
      opId: change?.op_id ?? null,
      changing: change === undefined || change.kind === 'send' || change.phase === 'failed' ? null : change.kind,
      newDay: false,
      unreadFrom: message.message_seq === unreadFromSeq,
      ...quoteOf(message.deleted_at === null ? message.parent_message_id : null, message.parent_seq, quoted),
    });
  }
  notesBefore(Number.POSITIVE_INFINITY);
  return rows;
}

function pendingRows({ me, messages, entries, quoted }: RowsInput): Row[] {
  const shown = new Set(messages.slice(-200).map(({ message_id }) => message_id));
  const gone = new Set(entries.filter(({ kind }) => kind === 'delete').map(({ message_id }) => message_id));
  return entries
    .filter(({ kind, message_id }) => kind === 'send' && !shown.has(message_id))
    .map((entry): MessageRow => ({
      kind: 'message',
      key: entry.message_id,
      messageId: entry.message_id,
      seq: null,
      sender: me,
      own: true,
      content: entries.findLast((one) => one.kind === 'edit' && one.message_id === entry.message_id)?.content ?? entry.content,
      attachments: entry.attachments?.length ? entry.attachments : NONE,
      deleted: false,
      edited: false,
      atMs: entry.created_ms,
      first: true,
      last: true,
      status: entry.phase === 'failed' || entry.phase === 'accepted' || entry.phase === 'persisted' ? entry.phase : 'pending',
      failure: entry.failure?.message ?? null,
      opId: entry.op_id,
      changing: gone.has(entry.message_id) ? 'delete' : null,
      newDay: false,
      unreadFrom: false,
      ...quoteOf(entry.parent_message_id ?? null, null, quoted),
    }));
}

/** What a message answers, as a row shows it. */
export function quoteOf(parentId: string | null, parentSeq: number | null, quoted: RowsInput['quoted']): Quote {
  const nothing = { parent: null, parentId, parentSeq, parentSender: null, parentText: null };
  if (parentId === null) return nothing;
  const found = quoted(parentId, parentSeq);
  if (typeof found === 'string') return { ...nothing, parent: found };
  return {
    parent: found.deleted_at === null ? 'known' : 'deleted',
    parentId,
    parentSeq: found.message_seq,
    parentSender: found.sender_id,
    parentText: found.deleted_at === null ? messageText(found).slice(0, QUOTED_CHARS) : null,
  };
}

function noteRow(note: Note): NoteRow {
  return { kind: 'note', key: `note-${note.seq}`, note, newDay: false, atMs: note.at ? Date.parse(note.at) : 0 };
}

/** Marks where days and groups begin. Days are compared by number, which is cheap for thousands of rows. */
function group(rows: Row[]): void {
  let before: Row | null = null;
  let day = Number.NaN;
  for (const row of rows) {
    if (row.atMs === 0 && before) row.atMs = before.atMs;
    const today = dayNumber(row.atMs);
    row.newDay = today !== day;
    day = today;
    const joins =
      before?.kind === 'message' && row.kind === 'message' && !row.newDay && !row.unreadFrom &&
      before.sender === row.sender && row.atMs - before.atMs < GROUP_MS;
    if (row.kind === 'message') row.first = !joins;
    if (joins && before?.kind === 'message') before.last = false;
    before = row;
  }
}

function reuse(block: Block, before: Block | undefined): Block {
  if (before === undefined) return block;
  const known = new Map(before.rows.map((row) => [row.key, row]));
  const rows = block.rows.map((row) => {
    const old = known.get(row.key);
    return old !== undefined && same(old, row) ? old : row;
  });
  const unchanged = rows.length === before.rows.length && rows.every((row, i) => row === before.rows[i]);
  return unchanged ? before : { key: block.key, rows };
}

function same(a: Row, b: Row): boolean {
  for (const key in a) if (a[key as keyof Row] !== b[key as keyof Row]) return false;
  return true;
}

function timeOf(message: Message): number {
  let ms = times.get(message);
  if (ms === undefined) {
    ms = Date.parse(message.created_at);
    times.set(message, ms);
  }
  return ms;
}
