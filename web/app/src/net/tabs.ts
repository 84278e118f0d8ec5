/**
 * The tabs of one person: exactly one of them, the one that holds a lock, sends the outbox; all tell each
 * other what happens to it.
 *
 * The browser gives the lock to the next tab when the holder is closed or crashes. A tab that holds a
 * lock isn't frozen in the background. Where there are no locks (pages over plain HTTP from another
 * machine) each tab sends: message ids keep that harmless.
 */
import type { Command, Entry, Trail } from '@waltalkie/client';

export type TabNews =
  | { news: 'added'; command: Command }
  | { news: 'dropped'; opId: string }
  | { news: 'progress'; entries: Entry[]; settled: string[]; trails: [string, Trail][] };

export class Tabs {
  readonly #channel: BroadcastChannel;
  readonly #end = new AbortController();

  /**
   * @param onLead this tab sends from now on
   * @param onNews another tab tells something
   */
  constructor(userId: string, onLead: () => void, onNews: (news: TabNews) => void) {
    this.#channel = new BroadcastChannel(`waltalkie:${userId}`);
    this.#channel.onmessage = ({ data }) => onNews(data as TabNews);
    if (!('locks' in navigator)) {
      queueMicrotask(onLead);
      return;
    }
    const { signal } = this.#end;
    const held = new Promise<void>((release) => signal.addEventListener('abort', () => release()));
    navigator.locks
      .request(`waltalkie-outbox:${userId}`, { signal }, () => {
        onLead();
        return held;
      })
      .catch(() => undefined);
  }

  /** Tells the other tabs. */
  tell(news: TabNews): void {
    this.#channel.postMessage(news);
  }

  /** Lets another tab send. */
  stop(): void {
    this.#end.abort();
    this.#channel.close();
  }
}
