/** What a client tells, and to whom. */
import type { ChatState, Sequenced } from './chat-state.ts';
import type { OutboxChanges } from './outbox.ts';
import type { Connection } from './socket.ts';

/** What can be listened to. Events of a chat are there by the names that the server gives them. */
export type Events = { [E in Sequenced as E['kind']]: E['payload'] } & {
  /** The connection. */
  state: Connection;
  /** The list of chats has come anew. */
  chats: readonly ChatState[];
  /** Something of this chat has changed, also what is unsent, unread, or who types: to draw anew. */
  change: string;
  /** This chat missed more than is replayed: the events between are only in its history. */
  restarted: string;
  /** This person came or went, or it isn't known any longer. */
  presence: string;
  /** What became of commands. */
  outbox: OutboxChanges;
};

type Handler = (what: never) => void;

export class Emitter {
  readonly #handlers = new Map<keyof Events, Set<Handler>>();

  /** Calls `handler` for each event of this name; gives what ends that. */
  on<E extends keyof Events>(event: E, handler: (what: Events[E]) => void): () => void {
    const handlers = this.#handlers.get(event) ?? new Set();
    this.#handlers.set(event, handlers.add(handler));
    return () => void handlers.delete(handler);
  }

  /** A handler that throws is not to keep the rest from being carried out; its error is thrown by itself. */
  emit<E extends keyof Events>(event: E, what: Events[E]): void {
    for (const handler of this.#handlers.get(event) ?? []) {
      try {
        (handler as (what: Events[E]) => void)(what);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
