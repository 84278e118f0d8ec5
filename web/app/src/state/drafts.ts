/** What a person is writing, a chat: kept by the browser, so that a reload or another chat doesn't lose it. */
import { SvelteMap } from 'svelte/reactivity';

export interface Draft {
  text: string;
  /** What it answers. */
  reply: { messageId: string; seq: number } | null;
}

export class Drafts {
  readonly #kept = new SvelteMap<string, Draft>();
  readonly #prefix: string;

  /** @param me whose drafts these are */
  constructor(me: string) {
    this.#prefix = `waltalkie.draft:${me}/`;
    for (const key of keys()) if (key.startsWith(this.#prefix)) this.#load(key);
  }

  /** The draft in a chat, if there is one. */
  get(chatId: string): Draft | undefined {
    return this.#kept.get(chatId);
  }

  /** Keeps a draft; one that says nothing is forgotten. */
  set(chatId: string, draft: Draft): void {
    const isEmpty = draft.text.trim() === '' && draft.reply === null;
    if (isEmpty) this.#kept.delete(chatId);
    else this.#kept.set(chatId, draft);
    try {
      if (isEmpty) localStorage.removeItem(this.#prefix + chatId);
      else localStorage.setItem(this.#prefix + chatId, JSON.stringify(draft));
    } catch {
      // No storage, or a full one: the draft lives as long as the page.
    }
  }

  #load(key: string): void {
    try {
      const { text, reply } = JSON.parse(localStorage.getItem(key) ?? '') as Draft;
      if (typeof text === 'string') this.#kept.set(key.slice(this.#prefix.length), { text, reply: reply ?? null });
    } catch {
      // Not ours, or of another version.
    }
  }
}

function keys(): string[] {
  try {
    return Object.keys(localStorage);
  } catch {
    return [];
  }
}
