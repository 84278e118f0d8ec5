/**
 * One person's chats, live: what an application holds. It drives the session: frames, pages and time in, and out what the
 * effects ask for.
 *
 * *Order and repeats*: events are told in each chat's order, each once. *Durability*: what is sent lives as long as this
 * client, and goes out until the server has persisted or refused it. *Failure*: connections, tokens and pages are tried
 * again by themselves.
 */
import { Api } from './api.ts';
import type { ChatState } from './chat-state.ts';
import { Emitter, type Events } from './events.ts';
import type { Attachment, Presence } from './frames.ts';
import { WaltalkieError } from './http.ts';
import { newId } from './ids.ts';
import type { Message } from './message-log.ts';
import type { Command, Entry, OutboxChanges } from './outbox.ts';
import { Pages } from './pages.ts';
import { Session, type Effect, type SessionOptions } from './session.ts';
import { Socket, type Connection } from './socket.ts';
import { Tokens } from './tokens.ts';
import { upload, type UploadFile, type UploadOptions } from './upload.ts';

export interface ClientOptions extends SessionOptions {
  /** The server, such as `https://chat.example.com`. */
  url: string;
  /** Asks the application's backend for a fresh token of the person. Called when the last one won't do any more. */
  getToken: () => Promise<string>;
}

/** What a message can have beside its text. */
export interface SendOptions {
  /** The message of the same chat that it answers. */
  parentMessageId?: string;
  attachments?: readonly Attachment[];
}

const TICK_MS = 250;
const FETCH_AGAIN_MS = 3_000;

/** Connects, and stays connected until `close`. It begins after the caller's present step, which can listen to all of it. */
export function connect(options: ClientOptions): Client {
  const client = new Client(options);
  queueMicrotask(() => client.start());
  return client;
}

export class Client {
  readonly session: Session;
  readonly api: Api;
  readonly pages: Pages;
  /** All chats have been told of at least once. Rejects if the client ends before. */
  readonly ready: Promise<void>;
  readonly #tokens: Tokens;
  readonly #socket: Socket;
  readonly #events = new Emitter();
  readonly #asked = new Map<string, { resolve: (entry: Entry) => void; reject: (error: Error) => void }>();
  #timer: ReturnType<typeof setInterval> | undefined;
  #fetchAgain: ReturnType<typeof setTimeout> | undefined;
  #becomeReady!: () => void;
  #neverReady!: (error: Error) => void;
  #fetching: 'no' | 'yes' | 'again' = 'no';
  #listed = false;
  #order = 0;
  #ended: WaltalkieError | null = null;

  constructor({ url, getToken, ...options }: ClientOptions) {
    this.#tokens = new Tokens(getToken);
    this.session = new Session(options);
    this.api = new Api(url, this.#tokens);
    this.pages = new Pages(this.api, this.session, (effects) => this.apply(effects));
    this.ready = new Promise((resolve, reject) => {
      this.#becomeReady = resolve;
      this.#neverReady = reject;
    });
    this.ready.catch(() => undefined);
    this.#socket = new Socket({
      url,
      tokens: this.#tokens,
      onFrame: (frame) => {
        this.apply(this.session.receive(frame, Date.now(), Math.random()));
        if (frame.event !== 'chats' || !frame.payload.complete) return;
        this.pages.retryFailed();
        if (this.#listed) this.#becomeReady();
      },
      onDown: () => this.apply(this.session.disconnected()),
      onState: (connection) => {
        this.#events.emit('state', connection);
        if (connection.state === 'stopped') this.#end(new WaltalkieError('stopped', 'The server takes this person no more.'));
      },
    });
  }

  /** Connects, and fetches the list of chats beside it. */
  start(): void {
    if (this.#ended) return;
    void this.refresh();
    this.#socket.start();
    this.#timer = setInterval(() => {
      this.#socket.tick(Date.now());
      this.tick();
    }, TICK_MS);
  }

  /** Ends everything. Sends without an answer are rejected; each may have arrived or not. */
  close(): void {
    this.#end(new WaltalkieError('closed', 'The client was closed.'));
    this.#socket.stop();
  }

  /** Calls `handler` for each event of this name; gives what ends that. */
  on<E extends keyof Events>(event: E, handler: (what: Events[E]) => void): () => void {
    return this.#events.on(event, handler);
  }

  /** The person's user id; empty until the first connection tells it. */
  get me(): string {
    return this.session.me;
  }

  /** All chats, latest activity first. */
  get chats(): ChatState[] {
    return [...this.session.chats.values()]
      .filter(({ described }) => described)
      .sort((a, b) => (a.lastActivityAt < b.lastActivityAt ? 1 : a.lastActivityAt > b.lastActivityAt ? -1 : a.chatId < b.chatId ? -1 : 1));
  }

  /** One chat; its loaded messages are `log.messages`. */
  chat(chatId: string): ChatState | undefined {
    return this.session.chats.get(chatId);
  }

  /** What this person has asked for in a chat and the server has not yet confirmed, in order. */
  unsent(chatId: string): Entry[] {
    return this.session.outbox.entries.filter(({ chat_id }) => chat_id === chatId);
  }

  /** A chat's loaded messages by `seq`: the first call loads the newest, and events keep them up to date. */
  async history(chatId: string): Promise<readonly Message[]> {
    await this.ready;
    await this.pages.open(chatId);
    return this.chat(chatId)?.log.messages ?? [];
  }

  /** Loads the messages before those that are loaded. Tells whether there are more. */
  async older(chatId: string): Promise<boolean> {
    await this.pages.older(chatId);
    return this.chat(chatId)?.log.hasMoreBefore ?? false;
  }

  /**
   * Sends a text, files that `upload` gave, or both. Resolves when it is persisted; rejects with a `WaltalkieError` if it is
   * refused for good.
   */
  async send(chatId: string, content: string, { parentMessageId, attachments }: SendOptions = {}): Promise<{ message_id: string; seq: number }> {
    const parent = parentMessageId === undefined ? {} : { parent_message_id: parentMessageId };
    const files = attachments === undefined ? {} : { attachments };
    const { message_id, seq = 0 } = await this.#ask({ kind: 'send', chat_id: chatId, content, ...files, ...parent });
    return { message_id, seq };
  }

  /** Brings a file to the store, for a message in this chat. */
  upload(chatId: string, file: UploadFile, options: UploadOptions = {}): Promise<Attachment> {
    return upload(this.api, chatId, file, options);
  }

  /** Replaces the body of an own message. Resolves and rejects as `send` does. */
  async edit(chatId: string, messageId: string, content: string): Promise<void> {
    await this.#ask({ kind: 'edit', chat_id: chatId, message_id: messageId, content });
  }

  /** Deletes a message. Resolves and rejects as `send` does. */
  async remove(chatId: string, messageId: string): Promise<void> {
    await this.#ask({ kind: 'delete', chat_id: chatId, message_id: messageId, content: null });
  }

  /** The person has seen everything of a chat that has come. */
  markRead(chatId: string): void {
    this.apply(this.session.read(chatId));
  }

  /** The person types in a chat: to be called at each key. */
  typing(chatId: string): void {
    this.apply(this.session.typed(chatId, Date.now()));
  }

  /** Whether somebody is at this device, `true` unless set. While nobody is at any of the person's, messages are pushed to them. */
  set active(active: boolean) {
    this.#socket.active = active;
  }

  /** The others who type in a chat now. */
  whoTypes(chatId: string): string[] {
    return this.session.typing.who(chatId, Date.now());
  }

  /** Where a person is, as far as the server has told. */
  presence(userId: string): Presence | undefined {
    return this.session.presences.of(userId);
  }

  /** Connects now instead of waiting for the next try. */
  tryNow(): void {
    this.#socket.tryNow();
  }

  /** Fetches the list of chats; calls meanwhile are joined into one more. */
  async refresh(): Promise<void> {
    if (this.#ended) return;
    if (this.#fetching !== 'no') {
      this.#fetching = 'again';
      return;
    }
    this.#fetching = 'yes';
    try {
      this.apply(this.session.describe(await this.api.chats()));
      this.#listed = true;
      this.#events.emit('chats', this.chats);
      if (this.session.ready) this.#becomeReady();
    } catch {
      if (!this.#ended) this.#fetchAgain = setTimeout(() => void this.refresh(), FETCH_AGAIN_MS);
    }
    const again = (this.#fetching as string) === 'again';
    this.#fetching = 'no';
    if (again) void this.refresh();
  }

  /** What the time asks for, such as sending what was added to the outbox. */
  tick(): void {
    this.apply(this.session.tick(Date.now()));
  }

  /** Carries out what a step of the session asks for. */
  apply(effects: Effect[]): void {
    for (const effect of effects) this.#carryOut(effect);
    const changes = this.session.outbox.takeChanges();
    if (changes.changed.length > 0 || changes.settled.length > 0) this.#answer(changes);
  }

  #carryOut(effect: Effect): void {
    switch (effect.do) {
      case 'send':
        return this.#socket.send(effect.frame);
      case 'changed':
        return this.#events.emit('change', effect.chatId);
      case 'event':
        return this.#events.emit(effect.event.kind, effect.event.payload);
      case 'presence':
        return this.#events.emit('presence', effect.userId);
      case 'fetch_chats':
        return void this.refresh();
      case 'restarted':
        if (effect.wasLoaded) this.pages.newest(effect.chatId).catch(() => undefined);
        return this.#events.emit('restarted', effect.chatId);
      case 'fresh_token':
        this.#tokens.forget();
        return void this.#tokens.get().then((token) => this.#socket.send({ event: 'authenticate', payload: { token } }), () => undefined);
      case 'reconnect':
        return this.#socket.reconnectAfter(effect.afterMs);
    }
  }

  #ask(command: Pick<Command, 'kind' | 'chat_id' | 'content' | 'attachments' | 'parent_message_id'> & { message_id?: string }): Promise<Entry> {
    const id = newId();
    return new Promise((resolve, reject) => {
      if (this.#ended) return reject(this.#ended);
      this.#asked.set(id, { resolve, reject });
      this.session.outbox.add({ op_id: id, order: ++this.#order, message_id: id, ...command, created_ms: Date.now(), failure: null });
      this.tick();
    });
  }

  /** Tells whoever asked, and whoever draws. What was refused is forgotten once it has been told. */
  #answer(changes: OutboxChanges): void {
    for (const { op_id, failure } of changes.changed) {
      if (failure === null || !this.#asked.has(op_id)) continue;
      this.#asked.get(op_id)?.reject(new WaltalkieError(failure.code, failure.message));
      this.#asked.delete(op_id);
      this.session.outbox.drop(op_id);
    }
    for (const entry of changes.settled) {
      this.#asked.get(entry.op_id)?.resolve(entry);
      this.#asked.delete(entry.op_id);
    }
    this.#events.emit('outbox', changes);
    for (const chatId of new Set([...changes.changed, ...changes.settled].map(({ chat_id }) => chat_id))) this.#events.emit('change', chatId);
    // What was answered made room for more.
    if (changes.settled.length > 0) this.tick();
  }

  #end(error: WaltalkieError): void {
    this.#ended ??= error;
    clearInterval(this.#timer);
    clearTimeout(this.#fetchAgain);
    this.#neverReady(error);
    for (const { reject } of this.#asked.values()) reject(error);
    this.#asked.clear();
  }
}
