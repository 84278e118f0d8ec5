/**
 * Who is typing, both ways: what others are shown to do, and when to tell that this person does. Nothing of it
 * is kept, and nothing is answered: a frame that is lost costs a line that comes late or stays for seconds.
 */

/** How long one frame holds. */
const HOLDS_MS = 6_000;
/** Half of that, so that a line stays while one types, even if the next frame comes late. */
const EVERY_MS = 3_000;

export class Typing {
  /** By chat and person, until when it holds; whoever began first comes first. */
  readonly #untils = new Map<string, Map<string, number>>();
  readonly #toldAt = new Map<string, number>();

  /** The people who type in a chat at `now`. */
  who(chatId: string, now: number): string[] {
    return [...(this.#untils.get(chatId) ?? [])].flatMap(([userId, until]) => (until > now ? [userId] : []));
  }

  /** Somebody types. Tells whether that is news. */
  heard(chatId: string, userId: string, now: number): boolean {
    const untils = this.#untils.get(chatId) ?? new Map<string, number>();
    const isNew = (untils.get(userId) ?? now) <= now;
    this.#untils.set(chatId, untils.set(userId, now + HOLDS_MS));
    return isNew;
  }

  /** What somebody typed has come. */
  ended(chatId: string, userId: string): void {
    this.#untils.get(chatId)?.delete(userId);
  }

  /** Forgets who has stopped by `now`, and gives the chats where somebody did. */
  expire(now: number): string[] {
    const chatIds: string[] = [];
    for (const [chatId, untils] of this.#untils) {
      const before = untils.size;
      for (const [userId, until] of untils) if (until <= now) untils.delete(userId);
      if (untils.size < before) chatIds.push(chatId);
      if (untils.size === 0) this.#untils.delete(chatId);
    }
    return chatIds;
  }

  /** Whether to tell now that this person types in a chat. It counts as told. */
  due(chatId: string, now: number): boolean {
    if (now - (this.#toldAt.get(chatId) ?? Number.NEGATIVE_INFINITY) < EVERY_MS) return false;
    this.#toldAt.set(chatId, now);
    return true;
  }

  /** A message of this person has come, and ended their typing for others: the next is told at once. */
  sent(chatId: string): void {
    this.#toldAt.delete(chatId);
  }

  /** This person has left a chat: nothing of it is known any longer. */
  left(chatId: string): void {
    this.#untils.delete(chatId);
    this.#toldAt.delete(chatId);
  }

  /** The connection is gone, and with it whoever typed: gives the chats where somebody did. */
  disconnected(): string[] {
    return this.expire(Number.POSITIVE_INFINITY);
  }
}
