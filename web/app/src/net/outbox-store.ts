/**
 * Where the outbox outlives the page: an IndexedDB database for each person.
 *
 * The key is made by the database, so that commands of several tabs have one order. Without IndexedDB
 * (some private windows) commands live as long as the page, which is all that can be had.
 */
import type { Command } from '@waltalkie/client';

const STORE = 'outbox';

export class OutboxStore {
  readonly #database: Promise<IDBDatabase | null>;
  #lastOrder = 0;

  constructor(userId: string) {
    this.#database = open(`waltalkie:${userId}`).catch(() => null);
  }

  /** Keeps a command; gives it with its place in the order. */
  async add(command: Omit<Command, 'order'>): Promise<Command> {
    const database = await this.#database;
    if (database === null) return { ...command, order: (this.#lastOrder = Math.max(this.#lastOrder + 1, Date.now())) };
    const order = await done(database.transaction(STORE, 'readwrite').objectStore(STORE).add(command));
    return { ...command, order: order as number };
  }

  /** Keeps what changed about a command, such as that it failed. A command that is gone stays gone. */
  async update(command: Command): Promise<void> {
    const database = await this.#database;
    if (database === null) return;
    const store = database.transaction(STORE, 'readwrite').objectStore(STORE);
    if ((await done(store.getKey(command.order))) !== undefined) await done(store.put(command));
  }

  /** Forgets a command. */
  async remove(order: number): Promise<void> {
    const database = await this.#database;
    if (database !== null) await done(database.transaction(STORE, 'readwrite').objectStore(STORE).delete(order));
  }

  /** All kept commands in order. */
  async all(): Promise<Command[]> {
    const database = await this.#database;
    if (database === null) return [];
    return done(database.transaction(STORE).objectStore(STORE).getAll() as IDBRequest<Command[]>);
  }
}

function open(name: string): Promise<IDBDatabase> {
  const request = indexedDB.open(name, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: 'order', autoIncrement: true });
  return done(request);
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error('IndexedDB failed'));
  });
}
