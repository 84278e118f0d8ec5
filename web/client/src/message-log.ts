/**
 * The messages of one chat as far as they are loaded: from a floor to the newest, without a hole.
 *
 * Live events and history pages meet here in any order. Each message keeps the `seq` up to which its state
 * is known (an event's own, or the page's `as_of_seq`), and the later state wins; a tombstone always wins,
 * so that a late body can't resurrect a deleted message.
 */
import type { MessageEvent, MessageState, Way } from './frames.ts';

/** A message as shown, with what is known about how it came. Never changed in place. */
export interface Message extends MessageState {
  /** The `seq` up to which this state is known. */
  readonly version: number;
  /** The way of the original send, in development. */
  readonly way?: Way;
  /** When the original send's event reached this client, in epoch milliseconds; absent for history. */
  readonly received_ms?: number;
}

/** A page of history. */
export interface HistoryPage {
  messages: MessageState[];
  as_of_seq: number;
  has_more_before: boolean;
}

/** Later states of messages that aren't loaded yet; beyond this many the oldest is forgotten. */
const UNLOADED_LIMIT = 2_000;

export class MessageLog {
  #sorted: Message[] = [];
  readonly #byId = new Map<string, Message>();
  readonly #unloaded = new Map<string, Message>();
  #floor: number;
  #hasMoreBefore = true;
  #loaded = false;

  /** @param floor the lowest `seq` from which on live events are complete */
  constructor(floor: number) {
    this.#floor = floor;
  }

  /** Loaded messages by ascending `message_seq`. A new array after each change. */
  get messages(): readonly Message[] {
    return this.#sorted;
  }

  /** At least one page of history has been merged. */
  get loaded(): boolean {
    return this.#loaded;
  }

  /** The messages from this `seq` on are all here. */
  get floor(): number {
    return this.#floor;
  }

  /** There is older history than what is loaded. */
  get hasMoreBefore(): boolean {
    return this.#hasMoreBefore;
  }

  /** Finds a loaded message. */
  get(messageId: string): Message | undefined {
    return this.#byId.get(messageId);
  }

  /** What is known of a message, loaded or not. */
  latest(messageId: string): Message | undefined {
    return this.#byId.get(messageId) ?? this.#unloaded.get(messageId);
  }

  /** Applies an event that the cursor has let through. Gives the message if that changed what is loaded. */
  apply(event: MessageEvent, receivedMs: number): Message | null {
    const { seq, way, actor_id: _actor, ...state } = event;
    const isSend = seq === state.message_seq;
    const incoming: Message = {
      ...state,
      version: seq,
      ...(isSend ? { received_ms: receivedMs, ...(way ? { way } : {}) } : {}),
    };
    if (state.message_seq < this.#floor) {
      this.#keepUnloaded(newer(this.#unloaded.get(state.message_id), incoming));
      return null;
    }
    return this.#put(incoming) ? (this.#byId.get(state.message_id) ?? null) : null;
  }

  /** Merges the newest page, or the page that ends where the loaded messages begin. */
  merge(page: HistoryPage): void {
    for (const state of page.messages) {
      const fromPage: Message = { ...state, version: page.as_of_seq };
      const later = this.#unloaded.get(state.message_id);
      this.#put(later ? newer(later, fromPage) : fromPage);
    }
    const lowest = page.messages[0]?.message_seq ?? this.#floor;
    this.#floor = page.has_more_before ? Math.min(this.#floor, lowest) : 0;
    this.#hasMoreBefore = page.has_more_before;
    this.#loaded = true;
    for (const [id, message] of this.#unloaded) {
      if (message.message_seq >= this.#floor) this.#unloaded.delete(id);
    }
  }

  /** Keeps messages from a page that doesn't join what is loaded, such as one that is quoted. */
  learn(page: HistoryPage): void {
    for (const state of page.messages) {
      if (state.message_seq >= this.#floor) continue;
      this.#keepUnloaded(newer(this.#unloaded.get(state.message_id), { ...state, version: page.as_of_seq }));
    }
  }

  /** Forgets everything: history is read again. */
  restart(floor: number): void {
    this.#sorted = [];
    this.#byId.clear();
    this.#unloaded.clear();
    this.#floor = floor;
    this.#hasMoreBefore = true;
    this.#loaded = false;
  }

  /** Counts others' undeleted messages after `seq`, if those are all loaded; else `null`. */
  countUnread(seq: number, me: string): number | null {
    if (seq + 1 < this.#floor) return null;
    let count = 0;
    for (let i = this.#sorted.length - 1; i >= 0; i--) {
      const message = this.#sorted[i]!;
      if (message.message_seq <= seq) break;
      if (message.sender_id !== me && message.deleted_at === null) count++;
    }
    return count;
  }

  #put(incoming: Message): boolean {
    const existing = this.#byId.get(incoming.message_id);
    const winner = newer(existing, incoming);
    if (winner === existing) return false;
    this.#byId.set(winner.message_id, winner);
    const at = this.#position(winner.message_seq);
    const replaces = this.#sorted[at]?.message_seq === winner.message_seq;
    this.#sorted = this.#sorted.toSpliced(at, replaces ? 1 : 0, winner);
    return true;
  }

  /** Where `seq` is or belongs. Looks from the end first: nearly all arrive there. */
  #position(seq: number): number {
    let low = 0;
    let high = this.#sorted.length;
    if (high === 0 || this.#sorted[high - 1]!.message_seq < seq) return high;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#sorted[middle]!.message_seq < seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #keepUnloaded(message: Message): void {
    this.#unloaded.delete(message.message_id);
    this.#unloaded.set(message.message_id, message);
    if (this.#unloaded.size > UNLOADED_LIMIT) {
      const oldest = this.#unloaded.keys().next().value;
      if (oldest !== undefined) this.#unloaded.delete(oldest);
    }
  }
}

/** The later of two states of one message, keeping what is known of the original send's way. */
function newer(existing: Message | undefined, incoming: Message): Message {
  if (existing === undefined) return incoming;
  const resurrects = existing.deleted_at !== null && incoming.deleted_at === null;
  const wins = incoming.version > existing.version && !resurrects;
  const buries = incoming.deleted_at !== null && existing.deleted_at === null;
  const winner = wins || buries ? incoming : existing;
  const other = winner === incoming ? existing : incoming;
  const way = winner.way ?? other.way;
  const received = winner.received_ms ?? other.received_ms;
  if (way === winner.way && received === winner.received_ms) return winner;
  return { ...winner, ...(way ? { way } : {}), ...(received !== undefined ? { received_ms: received } : {}) };
}
