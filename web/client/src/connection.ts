/** The rules of the connection: what a close code asks for, how long to wait, when a silence means death. */

/** What to do after a close. */
export type AfterClose = 'reconnect' | 'fresh_token' | 'stay_away';

/** Reads a close code as the contract has it; codes that it doesn't name reconnect with backoff. */
export function afterClose(code: number): AfterClose {
  if (code === 4101) return 'fresh_token';
  if (code >= 4102 && code <= 4199) return 'stay_away';
  return 'reconnect';
}

const BACKOFF_BASE_MS = 400;
const BACKOFF_MAX_MS = 20_000;

/**
 * The wait before the next try: doubles, and is spread between half and all of it, so that a thousand
 * clients of a restarted node don't come back in one moment.
 *
 * @param attempt tries since the last good connection, from 0
 * @param random 0 to 1
 */
export function backoffMs(attempt: number, random: number): number {
  const full = Math.min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** Math.min(attempt, 10));
  return Math.round(full * (0.5 + random / 2));
}

/**
 * Heartbeats. A beat without any frame after it for two intervals means that the connection is dead.
 * Silence alone doesn't: browsers slow the timers of hidden pages, and then no beat was sent either.
 */
export class Heartbeat {
  readonly #everyMs: number;
  #lastBeat: number;
  #unanswered: number | null = null;

  constructor(everyMs: number, now: number) {
    this.#everyMs = everyMs;
    this.#lastBeat = now;
  }

  /** Any frame came. */
  heard(): void {
    this.#unanswered = null;
  }

  /** What the moment asks for. */
  tick(now: number): 'beat' | 'dead' | null {
    if (this.#unanswered !== null && now - this.#unanswered > 2 * this.#everyMs) return 'dead';
    if (now - this.#lastBeat < this.#everyMs) return null;
    this.#lastBeat = now;
    this.#unanswered ??= now;
    return 'beat';
  }
}
