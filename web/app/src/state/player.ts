/**
 * What plays of a file by URLs that count for some minutes: where one ends in the middle, as with a jump to another place, it goes on
 * with a fresh one. A file that fails with that too, before it played any further, can't be played.
 */
export class Player {
  readonly #anew: () => Promise<string | null>;
  #renewedAt: number | null = null;

  /** @param anew gives a fresh URL, or `null` if there is none */
  constructor(anew: () => Promise<string | null>) {
    this.#anew = anew;
  }

  /** It failed at a place, in seconds. Gives the URL to go on with, or `null` if it is over. */
  async failed(at: number): Promise<string | null> {
    if (this.#renewedAt === at) return null;
    this.#renewedAt = at;
    return this.#anew();
  }

  /** It plays: whatever fails next may be tried again. */
  plays(): void {
    this.#renewedAt = null;
  }
}
