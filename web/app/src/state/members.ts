/** Who is in a chat: pages of members over HTTP, beside the events that change them. */
import type { Client } from '@waltalkie/client';
import { SvelteMap } from 'svelte/reactivity';
import type { People } from './people.svelte.ts';

export class Members {
  /** Where the next page begins, by chat; `null` once all are known. */
  readonly next = new SvelteMap<string, string | null>();
  readonly #client: Client;
  readonly #people: People;

  constructor(client: Client, people: People) {
    this.#client = client;
    this.#people = people;
  }

  /** Fetches the first page. */
  load(chatId: string): Promise<void> {
    return this.#page(chatId, null);
  }

  /** Fetches the page after those that are known. */
  async more(chatId: string): Promise<void> {
    const cursor = this.next.get(chatId);
    if (cursor) await this.#page(chatId, cursor);
  }

  async #page(chatId: string, cursor: string | null): Promise<void> {
    const { api, session } = this.#client;
    for (;;) {
      const version = session.chats.get(chatId)?.membersVersion;
      const { members, next_cursor } = await api.members(chatId, cursor);
      // Somebody came or went meanwhile: the page may be from before.
      if (version !== session.chats.get(chatId)?.membersVersion) continue;
      this.#people.learn(members);
      this.#client.apply(session.members(chatId, members, cursor === null, Date.now()));
      this.next.set(chatId, next_cursor);
      return;
    }
  }
}
