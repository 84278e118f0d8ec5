/** Where the files of messages are read: URLs that count for some minutes, asked for when a file comes into sight. */
import type { Api, Media } from '@waltalkie/client';
import { SvelteMap } from 'svelte/reactivity';

/** URLs that end so soon are asked for anew. */
const SOON_MS = 20_000;

export class MediaFiles {
  readonly #api: Api;
  readonly #known = new SvelteMap<string, Media | null>();
  readonly #asked = new Map<string, Promise<Media | null>>();

  constructor(api: Api) {
    this.#api = api;
  }

  /** A file as it was last told; `null` if it can't be had. */
  get(mediaId: string): Media | null | undefined {
    return this.#known.get(mediaId);
  }

  /** A file whose URLs count. */
  async fresh(mediaId: string): Promise<Media | null> {
    const known = this.#known.get(mediaId);
    if (known?.urls && Date.parse(known.urls.expires_at) - Date.now() > SOON_MS) return known;
    let asked = this.#asked.get(mediaId);
    if (asked === undefined) {
      asked = this.#ask(mediaId);
      this.#asked.set(mediaId, asked);
    }
    return asked;
  }

  /** A file with URLs that were made just now, where those that were known count no more. */
  async anew(mediaId: string): Promise<Media | null> {
    this.#known.delete(mediaId);
    return this.fresh(mediaId);
  }

  /** What is known doesn't work: it is asked for anew. */
  renew(mediaId: string): void {
    void this.anew(mediaId);
  }

  async #ask(mediaId: string): Promise<Media | null> {
    const media = await this.#api.media(mediaId).catch(() => null);
    this.#known.set(mediaId, media);
    this.#asked.delete(mediaId);
    return media;
  }
}
