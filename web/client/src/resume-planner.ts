/**
 * Decides when a chat asks for what it misses: at once when `seq` jumped, after a second when only a head
 * is unmet (its event is most likely on the way), and again, more and more slowly, while nothing helps.
 */

const UNMET_HEAD_MS = 1_000;
const ASK_AGAIN_MS = 1_000;
const ASK_AGAIN_MAX_MS = 15_000;

interface Missing {
  since: number;
  gap: boolean;
  askedAt: number | null;
  asked: number;
  cursor: number;
}

export class ResumePlanner {
  readonly #missing = new Map<string, Missing>();

  /** Tells how a chat stands after each thing that happened to it. */
  note(chatId: string, at: { cursor: number; behind: boolean; gap: boolean }, now: number): void {
    if (!at.behind) {
      this.#missing.delete(chatId);
      return;
    }
    const missing = this.#missing.get(chatId);
    if (missing === undefined) {
      this.#missing.set(chatId, { since: now, gap: at.gap, askedAt: null, asked: 0, cursor: at.cursor });
      return;
    }
    missing.gap = at.gap;
    if (at.cursor > missing.cursor) {
      // It moves: wait anew, also for a long replay to end, and forget the tries that didn't help.
      missing.cursor = at.cursor;
      missing.since = now;
      if (missing.askedAt !== null) missing.askedAt = now;
      missing.asked = Math.min(missing.asked, 1);
    }
  }

  /** A chat is known to be behind since before this connection, so no event is on the way. */
  askNow(chatId: string, cursor: number): void {
    this.#missing.set(chatId, { since: Number.NEGATIVE_INFINITY, gap: true, askedAt: null, asked: 0, cursor });
  }

  /** The server has more than it told in one answer: the rest is asked for, at once if it told anything. */
  cutShort(chatId: string, cursor: number, toldAny: boolean, now: number): void {
    const missing = this.#missing.get(chatId) ?? { since: now, gap: false, askedAt: now, asked: 1, cursor };
    this.#missing.set(chatId, missing);
    if (!toldAny) return;
    missing.askedAt = null;
    missing.gap = true;
  }

  /** The chats to resume now. They count as asked. */
  due(now: number): string[] {
    const chats: string[] = [];
    for (const [chatId, missing] of this.#missing) {
      if (now < dueAt(missing)) continue;
      missing.askedAt = now;
      missing.asked += 1;
      chats.push(chatId);
    }
    return chats;
  }

  /** The connection is gone, and with it what was asked. */
  disconnected(): void {
    this.#missing.clear();
  }
}

function dueAt(missing: Missing): number {
  if (missing.askedAt !== null) {
    return missing.askedAt + Math.min(ASK_AGAIN_MAX_MS, ASK_AGAIN_MS * 2 ** (missing.asked - 1));
  }
  return missing.gap ? Number.NEGATIVE_INFINITY : missing.since + UNMET_HEAD_MS;
}
