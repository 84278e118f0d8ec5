/** Pages of history: the newest when a chat is opened, older ones as the person goes back. */
import type { Api } from './api.ts';
import type { Effect, Session } from './session.ts';

const NEWEST = 50;
const OLDER = 100;
/** As many as the server gives at once, where much is to be passed. */
const MOST = 200;
/** Pages passed to reach one message, beyond which it is too far. */
const PAGES_TO_REACH = 50;

export type Loading = 'newest' | 'older' | 'failed';

/** Each call rejects where its page couldn't be had; then `loading` says `failed`. */
export class Pages {
  /** What is being fetched, or failed, by chat. */
  readonly loading = new Map<string, Loading>();
  readonly #api: Api;
  readonly #session: Session;
  readonly #apply: (effects: Effect[]) => void;
  readonly #fetching = new Map<string, Promise<void>>();

  /** @param apply carries out what a page asks for */
  constructor(api: Api, session: Session, apply: (effects: Effect[]) => void) {
    this.#api = api;
    this.#session = session;
    this.#apply = apply;
  }

  /** Fetches what an opened chat needs and doesn't have. */
  async open(chatId: string): Promise<void> {
    if (!this.#session.chats.get(chatId)?.log.loaded) await this.newest(chatId);
  }

  /** Fetches the newest page, back to where the unread begins if that is near enough. */
  newest(chatId: string): Promise<void> {
    const chat = this.#session.chats.get(chatId);
    const unread = chat === undefined ? 0 : chat.cursor.head - chat.readSeq;
    return this.#page(chatId, 'newest', null, Math.min(MOST, Math.max(NEWEST, unread + 10)));
  }

  /** Fetches the page before what is loaded, if there is one. */
  async older(chatId: string): Promise<void> {
    const log = this.#session.chats.get(chatId)?.log;
    if (log?.loaded && log.hasMoreBefore) await this.#page(chatId, 'older', log.floor, OLDER);
  }

  /** Fetches pages until everything from `seq` on is loaded. */
  async reach(chatId: string, seq: number): Promise<void> {
    const log = this.#session.chats.get(chatId)?.log;
    for (let pages = 0; log?.loaded && log.hasMoreBefore && log.floor > seq && pages < PAGES_TO_REACH; pages++) {
      const { floor } = log;
      await this.#page(chatId, 'older', floor, MOST);
      if (log.floor === floor) return;
    }
  }

  /** The connection is back: what failed is fetched again. */
  retryFailed(): void {
    for (const [chatId, loading] of this.loading) {
      if (loading !== 'failed') continue;
      this.loading.delete(chatId);
      this.open(chatId).catch(() => undefined);
    }
  }

  /** One page of a chat at a time: whoever asks meanwhile waits for that one. */
  #page(chatId: string, what: 'newest' | 'older', beforeSeq: number | null, limit: number): Promise<void> {
    let fetching = this.#fetching.get(chatId);
    if (fetching === undefined) {
      fetching = this.#fetch(chatId, what, beforeSeq, limit).finally(() => this.#fetching.delete(chatId));
      this.#fetching.set(chatId, fetching);
    }
    return fetching;
  }

  async #fetch(chatId: string, what: 'newest' | 'older', beforeSeq: number | null, limit: number): Promise<void> {
    this.#tell(chatId, what);
    try {
      const page = await this.#api.history(chatId, beforeSeq, limit);
      this.loading.delete(chatId);
      this.#apply(this.#session.history(chatId, page, Date.now()));
    } catch (error) {
      this.#tell(chatId, 'failed');
      throw error;
    }
  }

  #tell(chatId: string, loading: Loading): void {
    this.loading.set(chatId, loading);
    this.#apply([{ do: 'changed', chatId }]);
  }
}
