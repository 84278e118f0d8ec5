/** Pages of history: the newest when a chat is opened, older ones as the person scrolls up. */
import type { Effect, Session } from '@waltalkie/client';
import { SvelteMap } from 'svelte/reactivity';
import type { Api } from '../net/api.ts';

const NEWEST = 50;
const OLDER = 100;

export type Loading = 'newest' | 'older' | 'failed';

export class History {
  /** What is being fetched, or failed, by chat. */
  readonly loading = new SvelteMap<string, Loading>();
  /** Who is in a chat, as of when it was opened. */
  readonly members = new SvelteMap<string, string[]>();
  readonly #api: Api;
  readonly #session: Session;
  readonly #run: (effects: Effect[]) => void;
  readonly #opened = new Set<string>();

  constructor(api: Api, session: Session, run: (effects: Effect[]) => void) {
    this.#api = api;
    this.#session = session;
    this.#run = run;
  }

  /** Fetches what an opened chat needs and doesn't have. */
  async open(chatId: string): Promise<void> {
    if (!this.#opened.has(chatId)) {
      this.#opened.add(chatId);
      void this.#describe(chatId);
    }
    if (!this.#session.chats.get(chatId)?.log.loaded) await this.newest(chatId);
  }

  /** Fetches the newest page. */
  newest(chatId: string): Promise<void> {
    return this.#page(chatId, 'newest', null, NEWEST);
  }

  /** Fetches the page before what is loaded, if there is one. */
  async older(chatId: string): Promise<void> {
    const log = this.#session.chats.get(chatId)?.log;
    if (log?.loaded && log.hasMoreBefore) await this.#page(chatId, 'older', log.floor, OLDER);
  }

  /** The connection is back: what failed is fetched again. */
  retryFailed(): void {
    for (const [chatId, loading] of this.loading) {
      if (loading !== 'failed') continue;
      this.loading.delete(chatId);
      void this.open(chatId);
    }
  }

  async #page(chatId: string, what: 'newest' | 'older', beforeSeq: number | null, limit: number): Promise<void> {
    const loading = this.loading.get(chatId);
    if (loading === 'newest' || loading === 'older') return;
    this.loading.set(chatId, what);
    try {
      const page = await this.#api.history(chatId, beforeSeq, limit);
      this.#run(this.#session.history(chatId, page, Date.now()));
      this.loading.delete(chatId);
    } catch {
      this.loading.set(chatId, 'failed');
    }
  }

  async #describe(chatId: string): Promise<void> {
    const [chat, members] = await Promise.allSettled([this.#api.chat(chatId), this.#api.members(chatId)]);
    const state = this.#session.chats.get(chatId);
    if (state === undefined) return;
    if (chat.status === 'fulfilled' && chat.value.deleted_shown_as) state.deletedShownAs = chat.value.deleted_shown_as;
    if (members.status === 'fulfilled') {
      this.members.set(chatId, members.value.map(({ user_id }) => user_id));
      for (const { user_id, delivered_seq, read_seq } of members.value) {
        if (user_id === this.#session.me || delivered_seq === undefined || read_seq === undefined) continue;
        this.#run(this.#session.receive({ event: 'receipt', payload: { chat_id: chatId, users: { [user_id]: { delivered_seq, read_seq } } } }, Date.now(), 0));
      }
    }
  }
}
