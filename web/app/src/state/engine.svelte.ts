/**
 * Drives the sync core for one person in one tab: socket and HTTP in, effects out, and signals for what
 * is drawn. The core's objects are plain; a version number a chat says that they changed.
 */
import { Session, type ChatState, type Effect, type Message, type Presence } from '@waltalkie/client';
import { SvelteMap } from 'svelte/reactivity';
import { buildBlocks, type Block } from '../model/rows.ts';
import { Api, demoPeople } from '../net/api.ts';
import { Socket, type Connection } from '../net/socket.ts';
import { Drafts } from './drafts.ts';
import { History } from './history.ts';
import { Members } from './members.ts';
import { Outgoing } from './outgoing.ts';
import { People } from './people.svelte.ts';
import { Quotes, type Quoted } from './quotes.ts';
import { Unread } from './unread.ts';

const TICK_MS = 250;
const MINUTE_MS = 60_000;
const FETCH_AGAIN_MS = 3_000;
/** Groups whose members are offered where people are picked. */
const GROUPS_LOOKED_AT = 20;

export class Engine {
  readonly me: string;
  readonly api: Api;
  readonly people: People;
  readonly session: Session;
  readonly outgoing: Outgoing;
  readonly history: History;
  readonly members: Members;
  readonly drafts: Drafts;
  connection = $state<Connection>({ state: 'connecting' });
  /** The list of chats has come at least once. */
  listed = $state(false);
  /** What screen readers are told next. */
  announcement = $state('');
  development = $state(false);
  #list = $state(0);
  /** Apart from the list: people come and go far more often than anything else of it changes. */
  #there = $state(0);
  readonly #versions = new SvelteMap<string, number>();
  readonly #blocks = new Map<string, Block[]>();
  readonly #unread = new Unread();
  readonly #quotes: Quotes;
  readonly #dirty = new Set<string>();
  #thereDirty = false;
  #drawing = false;
  #minute = 0;
  readonly #socket: Socket;
  #timer: ReturnType<typeof setInterval> | undefined;
  #announced: { chatId: string; messageId: string } | null = null;
  #fetching: 'no' | 'yes' | 'again' = 'no';

  /** @param me the person's user id */
  constructor(me: string) {
    this.me = me;
    this.api = new Api(me);
    this.people = new People(this.api);
    this.session = new Session(me);
    this.outgoing = new Outgoing({
      session: this.session,
      onChange: (chatId) => this.#changed(chatId),
      onReady: () => this.#tick(),
    });
    this.drafts = new Drafts(me);
    const run = (effects: Effect[]) => this.#run(effects);
    this.history = new History(this.api, this.session, run);
    this.members = new Members(this.api, this.session, this.people, run);
    this.#quotes = new Quotes(this.api, this.session, run);
    this.#socket = new Socket({
      token: () => this.api.token(),
      forgetToken: () => this.api.forgetToken(),
      onFrame: (frame) => {
        this.#run(this.session.receive(frame, Date.now(), Math.random()));
        if (frame.event === 'hello') this.development = frame.payload.development;
        if (frame.event === 'chats' && frame.payload.complete) this.history.retryFailed();
      },
      onDown: () => this.#run(this.session.disconnected()),
      onState: (connection) => (this.connection = connection),
    });
  }

  /** Connects, and fetches the list of chats beside it. */
  start(): void {
    void this.#fetchChats();
    this.#socket.start();
    this.#timer = setInterval(() => {
      this.#socket.tick(Date.now());
      this.#tick();
    }, TICK_MS);
  }

  /** Ends everything of this person in this tab. */
  stop(): void {
    clearInterval(this.#timer);
    this.#socket.stop();
    this.outgoing.stop();
  }

  /** Connects now instead of waiting for the next try. */
  tryNow(): void {
    this.#socket.tryNow();
  }

  /** All chats, latest activity first. */
  get chats(): ChatState[] {
    void this.#list;
    return [...this.session.chats.values()]
      .filter(({ described }) => described)
      .sort((a, b) => (a.lastActivityAt < b.lastActivityAt ? 1 : a.lastActivityAt > b.lastActivityAt ? -1 : a.chatId < b.chatId ? -1 : 1));
  }

  /** One chat; whoever reads it here is told of its changes. */
  chat(chatId: string): ChatState | undefined {
    void this.#versions.get(chatId);
    void this.#list;
    return this.session.chats.get(chatId);
  }

  /** What a chat is called. */
  title(chat: ChatState): string {
    if (chat.name) return chat.name;
    if (chat.peer) return chat.peer.name || this.people.name(chat.peer.user_id);
    return chat.isGroup ? 'Group' : chat.chatId;
  }

  /** The rows of a chat in blocks. */
  blocks(chatId: string): Block[] {
    const chat = this.chat(chatId);
    if (chat === undefined) return [];
    const marks = [...chat.receipts.values()];
    const blocks = buildBlocks(
      {
        me: this.me,
        messages: chat.log.messages,
        notes: chat.notes,
        entries: this.session.outbox.entries.filter(({ chat_id }) => chat_id === chatId),
        deliveredSeq: Math.max(0, ...marks.map(({ delivered_seq }) => delivered_seq)),
        readSeq: Math.max(0, ...marks.map(({ read_seq }) => read_seq)),
        hideDeleted: chat.deletedShownAs === 'hidden',
        unreadFromSeq: this.#unread.from(chat, this.me),
        quoted: (messageId, seq) => this.#quotes.find(chatId, messageId, seq),
      },
      this.#blocks.get(chatId) ?? [],
    );
    this.#blocks.set(chatId, blocks);
    return blocks;
  }

  /** A chat comes to the front: its history is fetched, and where the unread began is remembered. */
  open(chatId: string): void {
    const chat = this.session.chats.get(chatId);
    if (chat) this.#unread.open(chat);
    this.#changed(chatId);
    void this.history.open(chatId);
    this.members.load(chatId).catch(() => undefined);
  }

  /** Sends a text, as an answer to a message if `parentId` names one. */
  say(chatId: string, text: string, parentId: string | null): void {
    this.#unread.clear(chatId);
    void this.outgoing.send(chatId, text, parentId);
  }

  /** A message that is quoted. */
  quoted(chatId: string, messageId: string, seq: number): Quoted {
    void this.chat(chatId);
    return this.#quotes.find(chatId, messageId, seq);
  }

  /** Learns whom one could write to: everybody in development, elsewhere those one shares a group with. */
  async meet(): Promise<void> {
    if (this.development) return this.people.learn(await demoPeople());
    const groups = this.chats.filter(({ isGroup }) => isGroup).slice(0, GROUPS_LOOKED_AT);
    await Promise.all(groups.map(({ chatId }) => this.members.load(chatId)));
  }

  /** The person sees the end of this chat. */
  read(chatId: string): void {
    if (this.session.chats.get(chatId)?.log.loaded) this.#run(this.session.read(chatId));
  }

  /** The person changes what is written in a chat's composer. */
  typed(chatId: string): void {
    this.#run(this.session.typed(chatId, Date.now()));
  }

  /** The names of those who type in a chat now. */
  typing(chatId: string): string[] {
    void this.chat(chatId);
    return this.session.typing.who(chatId, Date.now()).map((userId) => this.people.name(userId));
  }

  /** Where a person is, as far as the server has told. */
  presence(userId: string): Presence | undefined {
    void this.#there;
    return this.session.presences.of(userId);
  }

  /** A person is known to be online. */
  online(userId: string): boolean {
    return this.presence(userId)?.state === 'online';
  }

  /** How many own commands wait for the connection. */
  get waiting(): number {
    void this.#list;
    return this.session.outbox.entries.filter(({ phase }) => phase === 'queued').length;
  }

  /** Fetches the list of chats; calls meanwhile are joined into one more. */
  async refresh(): Promise<void> {
    await this.#fetchChats();
  }

  #tick(): void {
    const now = Date.now();
    this.#run(this.session.tick(now));
    // What is said to be some minutes ago moves on with the clock.
    const minute = Math.floor(now / MINUTE_MS);
    if (minute !== this.#minute) this.#thereChanged();
    this.#minute = minute;
  }

  #run(effects: Effect[]): void {
    for (const effect of effects) this.#carryOut(effect);
    this.outgoing.settle();
  }

  #carryOut(effect: Effect): void {
    switch (effect.do) {
      case 'send':
        this.#socket.send(effect.frame);
        return;
      case 'changed':
        this.#changed(effect.chatId);
        return;
      case 'presence':
        this.#thereChanged();
        return;
      case 'arrived':
        this.#announce(effect.chatId, effect.message);
        return;
      case 'fetch_chats':
        void this.#fetchChats();
        return;
      case 'fetch_history':
        void this.history.newest(effect.chatId);
        this.members.load(effect.chatId).catch(() => undefined);
        return;
      case 'fresh_token':
        this.api.forgetToken();
        void this.api.token().then((token) => this.#socket.send({ event: 'authenticate', payload: { token } }), () => undefined);
        return;
      case 'reconnect':
        this.#socket.reconnectAfter(effect.afterMs);
    }
  }

  #announce(chatId: string, message: Message): void {
    const chat = this.session.chats.get(chatId);
    if (chat && document.visibilityState !== 'visible') this.#unread.missed(chat, message.message_seq);
    this.#announced = { chatId, messageId: message.message_id };
    const place = chat && chat.isGroup ? ` in ${this.title(chat)}` : '';
    this.announcement = `${this.people.name(message.sender_id)}${place}: ${(message.content ?? '').slice(0, 200)}`;
  }

  async #fetchChats(): Promise<void> {
    if (this.#fetching !== 'no') {
      this.#fetching = 'again';
      return;
    }
    this.#fetching = 'yes';
    try {
      const rows = await this.api.chats();
      this.people.learn(rows.flatMap(({ peer }) => (peer ? [peer] : [])));
      this.#run(this.session.describe(rows));
      this.listed = true;
      this.#list += 1;
    } catch {
      setTimeout(() => void this.#fetchChats(), FETCH_AGAIN_MS);
    }
    const again = (this.#fetching as string) === 'again';
    this.#fetching = 'no';
    if (again) void this.#fetchChats();
  }

  /** A deleted body disappears from what screen readers can find, too. */
  #unsayDeleted(): void {
    const said = this.#announced;
    if (said === null || !this.#dirty.has(said.chatId)) return;
    if (this.session.chats.get(said.chatId)?.log.get(said.messageId)?.deleted_at === null) return;
    this.announcement = '';
    this.#announced = null;
  }

  #changed(chatId: string): void {
    this.#dirty.add(chatId);
    this.#redraw();
  }

  #thereChanged(): void {
    this.#thereDirty = true;
    this.#redraw();
  }

  /** Draws once a frame, however much happened: a resume brings thousands of events at once. */
  #redraw(): void {
    if (this.#drawing) return;
    this.#drawing = true;
    if (document.visibilityState === 'visible') requestAnimationFrame(this.#draw);
    else setTimeout(this.#draw, 100);
  }

  #draw = (): void => {
    this.#drawing = false;
    if (this.#thereDirty) this.#there += 1;
    this.#thereDirty = false;
    if (this.#dirty.size === 0) return;
    this.#unsayDeleted();
    for (const chatId of this.#dirty) this.#versions.set(chatId, (this.#versions.get(chatId) ?? 0) + 1);
    this.#dirty.clear();
    this.#list += 1;
  };
}
