/**
 * Who is online of the people one shares a chat with. The server tells it anew on each connection, so nothing is
 * known without one, and whoever hasn't been told of is unknown.
 */
import type { Presence } from './frames.ts';

interface Known {
  /** Chats by which the person was told to be online: one is enough, as large ones tell of nobody. */
  onlineIn: Set<string>;
  last_seen_at: string | null;
}

export class Presences {
  readonly #known = new Map<string, Known>();

  /** What is known of a person. */
  of(userId: string): Presence | undefined {
    const known = this.#known.get(userId);
    if (known === undefined) return undefined;
    if (known.onlineIn.size > 0) return { state: 'online', last_seen_at: null };
    return { state: 'offline', last_seen_at: known.last_seen_at };
  }

  /** Takes what the server tells by a chat. Tells whether that is news. */
  heard(chatId: string, userId: string, { state, last_seen_at }: Presence): boolean {
    const before = this.of(userId);
    const known = this.#known.get(userId) ?? { onlineIn: new Set<string>(), last_seen_at: null };
    this.#known.set(userId, known);
    if (state === 'online') {
      known.onlineIn.add(chatId);
    } else {
      known.onlineIn.delete(chatId);
      known.last_seen_at = last_seen_at ?? known.last_seen_at;
    }
    const after = this.of(userId);
    return before?.state !== after?.state || before?.last_seen_at !== after?.last_seen_at;
  }

  /**
   * This person has left a chat, which tells no more: gives the people whose state changed. Whoever was online by that
   * chat alone is unknown again, as nobody tells when they go.
   */
  left(chatId: string): string[] {
    const userIds: string[] = [];
    for (const [userId, { onlineIn }] of this.#known) {
      if (!onlineIn.delete(chatId) || onlineIn.size > 0) continue;
      this.#known.delete(userId);
      userIds.push(userId);
    }
    return userIds;
  }

  /** The connection is gone: gives the people of whom something was known. */
  disconnected(): string[] {
    const userIds = [...this.#known.keys()];
    this.#known.clear();
    return userIds;
  }
}
