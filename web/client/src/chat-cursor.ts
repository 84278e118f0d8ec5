/**
 * The cursor of one chat: the highest `seq` up to which everything has been seen.
 *
 * Only events and `skipped` ranges advance it, strictly in order. What arrives early waits by `seq`; what
 * arrives twice is dropped. An ack never gets here: it may overtake the events before it.
 */

/** Events that may wait for a gap to be filled. What is beyond is dropped: the resume brings it again. */
const WAITING_LIMIT = 1_000;

export class ChatCursor<E extends { seq: number }> {
  #cursor: number;
  #head: number;
  readonly #waiting = new Map<number, E | null>();
  #skipped: { from: number; to: number }[] = [];

  /** @param cursor everything up to here is known from elsewhere, such as history pages */
  constructor(cursor: number) {
    this.#cursor = cursor;
    this.#head = cursor;
  }

  /** The highest contiguous `seq`. */
  get cursor(): number {
    return this.#cursor;
  }

  /** The highest `seq` that anything has told of. */
  get head(): number {
    return this.#head;
  }

  /** Something is missing: the head hasn't been reached. */
  get behind(): boolean {
    return this.#head > this.#cursor;
  }

  /** Something later is here already, so what is between was lost or overtaken. */
  get gap(): boolean {
    return this.#waiting.size > 0 || this.#skipped.length > 0;
  }

  /** Takes an event; gives those that are now in order, this one or none or more. */
  offer(event: E): E[] {
    return this.#take(event.seq, event);
  }

  /** Takes the `seq` of an event that this client doesn't know: it counts, and shows nothing. */
  pass(seq: number): E[] {
    return this.#take(seq, null);
  }

  /** Takes a range that isn't shown to this member. */
  skip(from: number, to: number): E[] {
    if (to <= this.#cursor || to < from) return [];
    this.#head = Math.max(this.#head, to);
    if (this.#skipped.length < WAITING_LIMIT) this.#skipped.push({ from, to });
    return this.#drain();
  }

  /** Learns of a head. */
  observeHead(head: number): void {
    this.#head = Math.max(this.#head, head);
  }

  /**
   * Goes back to `cursor`, where history turned out to end earlier than thought; the events between come
   * again by a resume, and merge as repeats do.
   */
  rewind(cursor: number): void {
    this.#cursor = Math.min(this.#cursor, cursor);
  }

  /** Starts anew at `cursor`: what was between is read as history instead. */
  restart(cursor: number): void {
    this.#cursor = cursor;
    this.#head = cursor;
    this.#waiting.clear();
    this.#skipped = [];
  }

  #take(seq: number, event: E | null): E[] {
    if (!Number.isSafeInteger(seq) || seq <= this.#cursor) return [];
    this.#head = Math.max(this.#head, seq);
    if (this.#waiting.size < WAITING_LIMIT || seq === this.#cursor + 1) this.#waiting.set(seq, event);
    return this.#drain();
  }

  #drain(): E[] {
    const inOrder: E[] = [];
    for (;;) {
      const next = this.#cursor + 1;
      const event = this.#waiting.get(next);
      if (event !== undefined) {
        this.#waiting.delete(next);
        this.#cursor = next;
        if (event !== null) inOrder.push(event);
        continue;
      }
      const range = this.#skipped.find(({ from, to }) => from <= next && next <= to);
      if (range === undefined) break;
      this.#cursor = range.to;
    }
    for (const seq of this.#waiting.keys()) if (seq <= this.#cursor) this.#waiting.delete(seq);
    this.#skipped = this.#skipped.filter(({ to }) => to > this.#cursor);
    return inOrder;
  }
}
