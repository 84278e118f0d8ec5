/** Messages that others quote: from the log, or fetched one by one where they lie beyond what is loaded. */
import type { Client, Message } from '@waltalkie/client';

/** What a reply answers, or why it can't be shown: it comes yet, or is not for this person to see. */
export type Quoted = Message | 'loading' | 'absent';

export class Quotes {
  readonly #asked = new Map<string, 'loading' | 'absent'>();
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  /** The message, which is fetched if its `seq` is known. */
  find(chatId: string, messageId: string, seq: number | null): Quoted {
    const log = this.#client.session.chats.get(chatId)?.log;
    const known = log?.latest(messageId);
    if (known !== undefined || seq === null) return known ?? 'loading';
    // What is loaded is without a hole: a message of it that isn't there is hidden.
    if (log === undefined || !log.loaded) return 'loading';
    if (seq >= log.floor) return 'absent';
    const key = `${chatId}/${messageId}`;
    const asked = this.#asked.get(key);
    if (asked === undefined) {
      this.#asked.set(key, 'loading');
      void this.#fetch(key, chatId, messageId, seq);
    }
    return asked ?? 'loading';
  }

  async #fetch(key: string, chatId: string, messageId: string, seq: number): Promise<void> {
    try {
      const page = await this.#client.api.history(chatId, seq + 1, 1);
      if (page.messages.some(({ message_id }) => message_id === messageId)) this.#asked.delete(key);
      else this.#asked.set(key, 'absent');
      this.#client.apply(this.#client.session.learn(chatId, page));
    } catch {
      // Asked for again when the chat is next drawn.
      this.#asked.delete(key);
    }
  }
}
