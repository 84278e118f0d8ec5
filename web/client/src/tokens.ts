/** The present token of a person, for HTTP and WebSocket alike. */
export class Tokens {
  readonly #getToken: () => Promise<string>;
  #present: Promise<string> | null = null;

  /** @param getToken asks the application for a fresh one */
  constructor(getToken: () => Promise<string>) {
    this.#getToken = getToken;
  }

  /** The present token. The first call gets one, and so does the first after `forget` and after a failure. */
  get(): Promise<string> {
    if (this.#present !== null) return this.#present;
    const asked = this.#getToken();
    this.#present = asked;
    asked.catch(() => {
      if (this.#present === asked) this.#present = null;
    });
    return asked;
  }

  /** The present token won't do any more. */
  forget(): void {
    this.#present = null;
  }
}
