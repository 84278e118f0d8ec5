/** Names of people, fetched once each, in batches, when first asked for. */
import type { Api, Person } from '@waltalkie/client';
import { SvelteMap } from 'svelte/reactivity';

export class People {
  readonly #names = new SvelteMap<string, string>();
  readonly #wanted = new Set<string>();
  readonly #asked = new Set<string>();
  readonly #api: Api;

  constructor(api: Api) {
    this.#api = api;
  }

  /** Learns names that came with something else. */
  learn(people: Person[]): void {
    for (const { user_id, name } of people) {
      this.#asked.add(user_id);
      const known = name || user_id;
      if (this.#names.get(user_id) !== known) this.#names.set(user_id, known);
    }
  }

  /** Everybody who is known here, by name. */
  get all(): { id: string; name: string }[] {
    return [...this.#names].map(([id, name]) => ({ id, name })).sort((a, b) => a.name.localeCompare(b.name));
  }

  /** The name, or until it is known the id. */
  name(userId: string): string {
    const name = this.#names.get(userId);
    if (name === undefined) this.#want(userId);
    return name ?? userId;
  }

  #want(userId: string): void {
    if (this.#asked.has(userId)) return;
    this.#asked.add(userId);
    this.#wanted.add(userId);
    if (this.#wanted.size === 1) queueMicrotask(() => void this.#fetch());
  }

  async #fetch(): Promise<void> {
    const ids = [...this.#wanted];
    this.#wanted.clear();
    try {
      this.learn(await this.#api.people(ids));
    } catch {
      // Asked for again when next drawn.
      for (const id of ids) this.#asked.delete(id);
    }
  }
}
