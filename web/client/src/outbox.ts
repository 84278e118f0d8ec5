/**
 * The outbox: what a person has asked for and the server has not yet confirmed, in order.
 *
 * ```text
 *            pump            accepted            persisted              event seen
 *   queued ───────▶ sent ───────────▶ accepted ───────────▶ persisted ───────────▶ (gone)
 *     ▲  ▲           │ │                 │
 *     │  └───────────┘ │ refused for good│
 *     │   temporary    ▼                 │ connection lost, or no answer: sent again
 *     │   refusal    failed              │ under the same message id, which the server
 *     └───────────────┴──────────────────┘ acknowledges as the first one
 *          retry
 * ```
 *
 * A persisted command is forgotten by storage at once, and kept here until its event has come, so that
 * what is drawn never goes back for a moment.
 *
 * Order: commands of one chat go out in the order they were made. After a refusal the server refuses all
 * later ones of that chat (`blocked_by_earlier`), so nothing more of it is sent until each one on its way
 * has its answer; then sending starts again at the first.
 */
import type { Attachment, MessageState, Refusal } from './frames.ts';

/** A command as it is kept, over reloads too. */
export interface Command {
  op_id: string;
  /** Position among all commands of the person, over all tabs. */
  order: number;
  kind: 'send' | 'edit' | 'delete';
  chat_id: string;
  message_id: string;
  content: string | null;
  /** Completed uploads that a send has. */
  attachments?: readonly Attachment[];
  /** The message of the same chat that a send answers. */
  parent_message_id?: string;
  created_ms: number;
  /** Set when the server refused it for good. */
  failure: { code: string; message: string } | null;
}

export type Phase = 'queued' | 'sent' | 'accepted' | 'persisted' | 'failed';

/** A command with where it is. Never changed in place. */
export interface Entry extends Command {
  readonly phase: Phase;
  readonly attempts: number;
  readonly not_before_ms: number;
  readonly sent_ms: number;
  /** The `seq` that its ack told. */
  readonly seq?: number;
}

/** When what happened to a message of this client's own, in epoch milliseconds. */
export interface Trail {
  sent_ms?: number;
  accepted_ms?: number;
  persisted_ms?: number;
  seq?: number;
}

/** What became of entries since the last look: to be stored and told to other tabs. */
export interface OutboxChanges {
  changed: Entry[];
  /** Entries that storage can forget. */
  settled: Entry[];
}

const IN_FLIGHT_PER_CHAT = 32;
const NO_ANSWER_MS = 15_000;
const RETRY_BASE_MS = 500;
const RETRY_MAX_MS = 30_000;
const PERSISTED_KEPT_MS = 60_000;
const TRAILS_LIMIT = 500;

export class Outbox {
  readonly #byId = new Map<string, Entry>();
  /** In order; made anew when asked for after a change. */
  #sorted: readonly Entry[] | null = null;
  readonly #stalled = new Set<string>();
  readonly #trails = new Map<string, Trail>();
  readonly #changed = new Set<string>();
  readonly #settled = new Map<string, Entry>();

  /** All entries in order. A new array after each change. */
  get entries(): readonly Entry[] {
    this.#sorted ??= [...this.#byId.values()].sort((a, b) => a.order - b.order);
    return this.#sorted;
  }

  /** What is known of the way of a message sent here. */
  trail(messageId: string): Trail | undefined {
    return this.#trails.get(messageId);
  }

  /** Adds a command, or puts one back that failed. A command that is here and hasn't failed stays as it is. */
  add(command: Command): void {
    const existing = this.#byId.get(command.op_id);
    if (existing !== undefined && (existing.phase !== 'failed' || command.failure)) return;
    const phase = command.failure ? 'failed' : 'queued';
    this.#put({ ...command, phase, attempts: 0, not_before_ms: 0, sent_ms: 0 });
    this.#changed.add(command.op_id);
    this.#settled.delete(command.op_id);
  }

  /** The person gave a command up. */
  drop(opId: string): void {
    const entry = this.#byId.get(opId);
    if (entry !== undefined) this.#remove(entry);
  }

  /** The commands to send now, in order. They count as sent. */
  pump(now: number): Entry[] {
    const closed = new Set<string>();
    const inFlight = new Map<string, number>();
    for (const { phase, chat_id } of this.#byId.values()) {
      if (phase !== 'sent' && phase !== 'accepted') continue;
      inFlight.set(chat_id, (inFlight.get(chat_id) ?? 0) + 1);
      if (phase === 'sent' && this.#stalled.has(chat_id)) closed.add(chat_id);
    }
    const out: Entry[] = [];
    for (const entry of this.entries) {
      if (entry.phase !== 'queued' || closed.has(entry.chat_id)) continue;
      const flying = inFlight.get(entry.chat_id) ?? 0;
      if (entry.not_before_ms > now || flying >= IN_FLIGHT_PER_CHAT) {
        closed.add(entry.chat_id);
        continue;
      }
      inFlight.set(entry.chat_id, flying + 1);
      this.#stalled.delete(entry.chat_id);
      out.push(this.#replace(entry, { phase: 'sent', sent_ms: now }));
      if (entry.kind === 'send') this.#mark(entry.message_id, { sent_ms: now });
    }
    return out;
  }

  /** An ack came: `opId` is the frame's id. */
  acked(opId: string, state: 'accepted' | 'persisted', seq: number | undefined, now: number): void {
    const entry = this.#byId.get(opId);
    const messageId = entry?.message_id ?? opId;
    if (entry === undefined || entry.kind === 'send') {
      const trail = this.#trails.get(messageId);
      if (trail !== undefined) {
        this.#mark(messageId, state === 'accepted' ? { accepted_ms: now } : { persisted_ms: now, ...(seq ? { seq } : {}) });
      }
    }
    if (entry === undefined) return;
    if (state === 'persisted') {
      this.#settle(this.#replace(entry, { phase: 'persisted', ...(seq ? { seq } : {}) }));
    } else if (entry.phase === 'sent') this.#replace(entry, { phase: 'accepted' });
  }

  /**
   * A refusal came. Gives the entry if the server must be told that it won't be tried again.
   *
   * @param random 0 to 1, spreads the retries of many clients
   */
  refused(opId: string, refusal: Refusal, now: number, random: number): Entry | null {
    const entry = this.#byId.get(opId);
    if (entry === undefined || entry.phase === 'failed' || entry.phase === 'persisted') return null;
    this.#stalled.add(entry.chat_id);
    // The earlier one's time counts, or it was just given up. Otherwise the server waits for something else.
    const waitsToo = ({ chat_id, order, phase }: Entry) =>
      chat_id === entry.chat_id && order < entry.order && (phase === 'queued' || phase === 'sent');
    const hasEarlier = this.entries.some(waitsToo);
    if (refusal.code === 'blocked_by_earlier' && (hasEarlier || entry.attempts === 0)) {
      this.#replace(entry, { phase: 'queued', attempts: hasEarlier ? entry.attempts : 1 });
      return null;
    }
    if (refusal.temporary || refusal.code === 'token_expired') {
      const backoff = Math.min(RETRY_MAX_MS, RETRY_BASE_MS * 2 ** entry.attempts) * (0.5 + random);
      const wait = Math.max(refusal.retry_after_ms ?? 0, backoff);
      this.#replace(entry, { phase: 'queued', attempts: entry.attempts + 1, not_before_ms: now + wait });
      return null;
    }
    if (entry.kind === 'delete' && refusal.code === 'message_not_found') {
      this.#remove(entry);
      return null;
    }
    this.#replace(entry, { phase: 'failed', failure: { code: refusal.code, message: refusal.message } });
    return entry.kind === 'send' ? entry : null;
  }

  /**
   * A message's state was seen, by its event or in history: what it shows is done, whatever acks said.
   *
   * @param version the `seq` up to which the state is known
   */
  seen(state: Pick<MessageState, 'message_id' | 'message_seq' | 'content' | 'deleted_at'>, version: number): void {
    for (const entry of this.#byId.values()) {
      if (entry.message_id !== state.message_id || entry.phase === 'failed') continue;
      const shown =
        entry.kind === 'send' ||
        state.deleted_at !== null ||
        (entry.kind === 'edit' && entry.content === state.content && entry.phase !== 'queued') ||
        (entry.seq !== undefined && entry.seq <= version);
      if (shown) this.#remove(entry.kind === 'send' ? this.#replace(entry, { seq: state.message_seq }) : entry);
    }
  }

  /** Shows what the tab that sends told of its entries. */
  mirror(entries: Entry[], settled: string[], trails: [string, Trail][]): void {
    for (const entry of entries) this.#put(entry);
    for (const opId of settled) if (this.#byId.get(opId)?.phase !== 'persisted') this.#delete(opId);
    for (const [messageId, trail] of trails) this.#mark(messageId, trail);
  }

  /** The connection is gone: what had no final answer is sent again on the next one. */
  disconnected(): void {
    this.#stalled.clear();
    for (const entry of this.#byId.values()) {
      if (entry.phase === 'sent' || entry.phase === 'accepted') {
        this.#replace(entry, { phase: 'queued', not_before_ms: 0 });
      }
    }
  }

  /** Puts back what has had no answer for long on a connection that lives. */
  tick(now: number): void {
    for (const entry of this.#byId.values()) {
      if (entry.phase === 'persisted' && now - entry.sent_ms > PERSISTED_KEPT_MS) this.#remove(entry);
      const waits = entry.phase === 'sent' || entry.phase === 'accepted';
      if (waits && now - entry.sent_ms > NO_ANSWER_MS) this.#replace(entry, { phase: 'queued' });
    }
  }

  /** What changed since the last call. */
  takeChanges(): OutboxChanges {
    const changed = [...this.#changed].flatMap((opId) => this.#byId.get(opId) ?? []).sort((a, b) => a.order - b.order);
    const settled = [...this.#settled.values()];
    this.#changed.clear();
    this.#settled.clear();
    return { changed, settled };
  }

  #put(entry: Entry): void {
    this.#byId.set(entry.op_id, entry);
    this.#sorted = null;
  }

  #delete(opId: string): void {
    this.#byId.delete(opId);
    this.#sorted = null;
  }

  #replace(entry: Entry, change: Partial<Entry>): Entry {
    const next = { ...entry, ...change };
    this.#put(next);
    this.#changed.add(entry.op_id);
    return next;
  }

  #remove(entry: Entry): void {
    this.#delete(entry.op_id);
    this.#changed.delete(entry.op_id);
    if (entry.phase !== 'persisted') this.#settle(entry);
  }

  #settle(entry: Entry): void {
    this.#settled.set(entry.op_id, entry);
  }

  #mark(messageId: string, change: Trail): void {
    this.#trails.set(messageId, { ...this.#trails.get(messageId), ...change });
    if (this.#trails.size > TRAILS_LIMIT) {
      const oldest = this.#trails.keys().next().value;
      if (oldest !== undefined) this.#trails.delete(oldest);
    }
  }
}
