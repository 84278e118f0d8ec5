/** Who is in a chat: pages of members over HTTP, beside the events that change them. */
import type { Effect, Session } from '@waltalkie/client';
import { SvelteMap } from 'svelte/reactivity';
import type { Api } from '../net/api.ts';
import type { People } from './people.svelte.ts';

export class Members {
  /** Where the next page begins, by chat; `null` once all are known. */
  readonly next = new SvelteMap<string, string | null>();
  readonly #api: Api;
  readonly #session: Session;
  readonly #people: People;
  readonly #run: (effects: Effect[]) => void;

  constructor(api: Api, session: Session, people: People, run: (effects: Effect[]) => void) {
    this.#api = api;
    this.#session = session;
    this.#people = people;
    this.#run = run;
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
    for (;;) {
      const version = this.#session.chats.get(chatId)?.membersVersion;
      const { members, next_cursor } = await this.#api.members(chatId, cursor);
      // Somebody came or went meanwhile: the page may be from before.
      if (version !== this.#session.chats.get(chatId)?.membersVersion) continue;
      this.#people.learn(members);
      this.#run(this.#session.members(chatId, members, cursor === null, Date.now()));
      this.next.set(chatId, next_cursor);
      return;
    }
  }
}
