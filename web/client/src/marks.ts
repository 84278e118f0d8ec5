/**
 * Delivered and read marks: cumulative, merged by maximum, sent at most once a second for all chats
 * together, and sent again after a reconnect if the server hasn't heard of them.
 */
import type { Marked } from './frames.ts';

const EVERY_MS = 1_000;

export type MarkKind = 'mark_delivered' | 'mark_read';

interface Level {
  wanted: Map<string, number>;
  told: Map<string, number>;
  sentAt: number;
}

export class Marks {
  readonly #levels: Record<MarkKind, Level> = {
    mark_delivered: { wanted: new Map(), told: new Map(), sentAt: Number.NEGATIVE_INFINITY },
    mark_read: { wanted: new Map(), told: new Map(), sentAt: Number.NEGATIVE_INFINITY },
  };
  readonly #known: Record<MarkKind, Map<string, number>> = {
    mark_delivered: new Map(),
    mark_read: new Map(),
  };

  /** Takes what the server knows of this person's marks. */
  adopt(chatId: string, marked: Marked): void {
    raise(this.#known.mark_delivered, chatId, marked.delivered_seq);
    raise(this.#known.mark_read, chatId, marked.read_seq);
  }

  /** This client has received, or the person has read, up to `seq`. */
  want(kind: MarkKind, chatId: string, seq: number): void {
    raise(this.#levels[kind].wanted, chatId, seq);
  }

  /** The marks to send now, or `null`. They count as sent. */
  due(kind: MarkKind, now: number): Record<string, number> | null {
    const level = this.#levels[kind];
    if (now - level.sentAt < EVERY_MS) return null;
    const marks: Record<string, number> = {};
    let any = false;
    for (const [chatId, seq] of level.wanted) {
      const heard = Math.max(level.told.get(chatId) ?? 0, this.#known[kind].get(chatId) ?? 0);
      level.wanted.delete(chatId);
      if (seq <= heard) continue;
      marks[chatId] = seq;
      level.told.set(chatId, seq);
      any = true;
    }
    if (!any) return null;
    level.sentAt = now;
    return marks;
  }

  /** The connection is gone: marks that the server never confirmed are wanted again. */
  disconnected(): void {
    for (const kind of ['mark_delivered', 'mark_read'] as const) {
      const { wanted, told } = this.#levels[kind];
      for (const [chatId, seq] of told) raise(wanted, chatId, seq);
      told.clear();
    }
  }
}

function raise(map: Map<string, number>, chatId: string, seq: number): void {
  if (seq > (map.get(chatId) ?? 0)) map.set(chatId, seq);
}
