/**
 * One person in one tab: the client, and signals for what is drawn of it. The client's objects are plain; a version
 * number a chat says that they changed.
 */
import {
  Client, developmentPeople, developmentToken,
  type Api, type Attachment, type ChatState, type Connection, type Loading, type MessageEvent, type Presence, type Session,
} from '@waltalkie/client';
import { SvelteMap } from 'svelte/reactivity';
import { messageText } from '../model/attachments.ts';
import { buildBlocks, type Block } from '../model/rows.ts';
import { countedUnread, isAnnounced, wantedUnread, type Reader } from '../model/signs.ts';
import { watchAttention } from './attention.ts';
import { Drafts } from './drafts.ts';
import { MediaFiles } from './media.svelte.ts';
import { Members } from './members.ts';
import { Notifications } from './notifications.svelte.ts';
import { Outgoing } from './outgoing.ts';
import { People } from './people.svelte.ts';
import { Quotes, type Quoted } from './quotes.ts';
import { Unread } from './unread.ts';
import { Uploads } from './uploads.svelte.ts';

const MINUTE_MS = 60_000;
/** Settings may be changed on another device, of which nothing is told here: they are read again when they are older. */
const SETTINGS_MS = 5 * MINUTE_MS;
/** Groups whose members are offered where people are picked. */
const GROUPS_LOOKED_AT = 20;

export class Engine {
  readonly me: string;
  readonly people: People;
  readonly outgoing: Outgoing;
  readonly members: Members;
  readonly drafts: Drafts;
  readonly uploads: Uploads;
  readonly media: MediaFiles;
  readonly notifications: Notifications;
  connection = $state<Connection>({ state: 'connecting' });
  /** The list of chats has come at least once. */
  listed = $state(false);
  /** What screen readers are told next. */
  announcement = $state('');
  development = $state(false);
  /** Most files of a message; 0 where the server takes none. */
  files = $state(0);
  /** The picture that is looked at, large. */
  viewing = $state.raw<Attachment | null>(null);
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
  #looked = false;
  readonly #client: Client;
  #timer: ReturnType<typeof setInterval> | undefined;
  #unwatch = (): void => undefined;
  #announced: { chatId: string; messageId: string } | null = null;

  /** @param me the person's user id */
  constructor(me: string) {
    this.me = me;
    this.#client = new Client({ url: location.origin, getToken: () => developmentToken(location.origin, me) });
    this.people = new People(this.#client.api);
    this.outgoing = new Outgoing(me, this.#client, (chatId) => this.#changed(chatId));
    this.drafts = new Drafts(me);
    this.uploads = new Uploads(this.#client.api);
    this.media = new MediaFiles(this.#client.api);
    this.notifications = new Notifications(this.#client.api, me);
    this.members = new Members(this.#client, this.people);
    this.#quotes = new Quotes(this.#client);
    this.#listen();
  }

  /** Connects. */
  start(): void {
    this.#client.start();
    this.#unwatch = watchAttention((looks) => {
      if (looks && !this.#looked) void this.notifications.reread();
      this.#looked = looks;
      this.#client.active = looks;
    });
    this.#timer = setInterval(() => {
      // What is said to be some minutes ago moves on with the clock.
      this.#thereChanged();
      void this.notifications.reread(SETTINGS_MS);
    }, MINUTE_MS);
  }

  /** Ends everything of this person in this tab. */
  stop(): void {
    clearInterval(this.#timer);
    this.#unwatch();
    this.#client.close();
    this.outgoing.stop();
  }

  get api(): Api {
    return this.#client.api;
  }

  get session(): Session {
    return this.#client.session;
  }

  /** Connects now instead of waiting for the next try. */
  tryNow(): void {
    this.#client.tryNow();
  }

  /** All chats, latest activity first. */
  get chats(): ChatState[] {
    void this.#list;
    return this.#client.chats;
  }

  /** One chat; whoever reads it here is told of its changes. */
  chat(chatId: string): ChatState | undefined {
    void this.#versions.get(chatId);
    void this.#list;
    return this.#client.chat(chatId);
  }

  /** What a chat is called. */
  title(chat: ChatState): string {
    if (chat.name) return chat.name;
    if (chat.peer) return chat.peer.name || this.people.name(chat.peer.user_id);
    return chat.isGroup ? 'Group' : chat.chatId;
  }

  /** How many unread messages the title and the badge count; `null` until it is known which. */
  get counted(): number | null {
    const { settings } = this.notifications;
    return this.listed && settings !== null ? countedUnread(this.chats, settings, this.#reader) : null;
  }

  /** How many unread messages of a chat the person wants signs of. */
  wanted(chat: ChatState): number {
    const { settings } = this.notifications;
    return settings === null ? chat.unread : wantedUnread(chat, settings, this.#reader);
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
        entries: this.#client.unsent(chatId),
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
    const chat = this.#client.chat(chatId);
    if (chat) this.#unread.open(chat);
    this.#changed(chatId);
    this.#client.pages.open(chatId).catch(() => undefined);
    this.members.load(chatId).catch(() => undefined);
  }

  /** What is being fetched of a chat's history, or couldn't be. */
  loading(chatId: string): Loading | undefined {
    void this.chat(chatId);
    return this.#client.pages.loading.get(chatId);
  }

  /** Fetches the newest messages of a chat; what fails shows in `loading`, here as below. */
  async newest(chatId: string): Promise<void> {
    await this.#client.pages.newest(chatId).catch(() => undefined);
  }

  /** Fetches the messages before those that are loaded. */
  async older(chatId: string): Promise<void> {
    await this.#client.pages.older(chatId).catch(() => undefined);
  }

  /** Fetches messages until all from `seq` on are loaded. */
  async reach(chatId: string, seq: number): Promise<void> {
    await this.#client.pages.reach(chatId, seq).catch(() => undefined);
  }

  /** Sends a text and the files in the chat's composer, as an answer to a message if `parentId` names one. */
  say(chatId: string, text: string, parentId: string | null): void {
    this.#unread.clear(chatId);
    void this.outgoing.send(chatId, text, this.uploads.take(chatId), parentId);
  }

  /** A message that is quoted. */
  quoted(chatId: string, messageId: string, seq: number): Quoted {
    void this.chat(chatId);
    return this.#quotes.find(chatId, messageId, seq);
  }

  /** Learns whom one could write to: everybody in development, elsewhere those one shares a group with. */
  async meet(): Promise<void> {
    if (this.development) return this.people.learn(await developmentPeople(location.origin));
    const groups = this.chats.filter(({ isGroup }) => isGroup).slice(0, GROUPS_LOOKED_AT);
    await Promise.all(groups.map(({ chatId }) => this.members.load(chatId)));
  }

  /** The person sees the end of this chat. */
  read(chatId: string): void {
    if (this.#client.chat(chatId)?.log.loaded) this.#client.markRead(chatId);
  }

  /** The person changes what is written in a chat's composer. */
  typed(chatId: string): void {
    this.#client.typing(chatId);
  }

  /** The names of those who type in a chat now. */
  typing(chatId: string): string[] {
    void this.chat(chatId);
    return this.#client.whoTypes(chatId).map((userId) => this.people.name(userId));
  }

  /** Where a person is, as far as the server has told. */
  presence(userId: string): Presence | undefined {
    void this.#there;
    return this.#client.presence(userId);
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
    await this.#client.refresh();
  }

  #listen(): void {
    const client = this.#client;
    client.on('state', (connection) => {
      this.connection = connection;
      this.development = client.session.hello?.development ?? this.development;
      this.files = client.session.hello?.limits.attachments ?? this.files;
      if (connection.state === 'connected') void this.notifications.reread();
    });
    client.on('chats', (chats) => {
      this.people.learn(chats.flatMap(({ peer }) => (peer ? [peer] : [])));
      this.listed = true;
      this.#list += 1;
    });
    client.on('change', (chatId) => this.#changed(chatId));
    client.on('restarted', (chatId) => {
      if (this.members.next.has(chatId)) this.members.load(chatId).catch(() => undefined);
    });
    client.on('presence', () => this.#thereChanged());
    client.on('message', (message) => this.#announce(message));
  }

  get #reader(): Reader {
    return { id: this.me, name: this.people.name(this.me) };
  }

  #announce(message: MessageEvent): void {
    const { chat_id: chatId } = message;
    const chat = this.#client.chat(chatId);
    if (chat === undefined || message.sender_id === this.me || message.deleted_at !== null) return;
    if (document.visibilityState !== 'visible') this.#unread.missed(chat, message.message_seq);
    const { settings } = this.notifications;
    if (settings === null || !isAnnounced(message, chat, settings, this.#reader, Date.now())) return;
    this.#announced = { chatId, messageId: message.message_id };
    const place = chat.isGroup ? ` in ${this.title(chat)}` : '';
    this.announcement = `${this.people.name(message.sender_id)}${place}: ${messageText(message).slice(0, 200)}`;
  }

  /** A deleted body disappears from what screen readers can find, too. */
  #unsayDeleted(): void {
    const said = this.#announced;
    if (said === null || !this.#dirty.has(said.chatId)) return;
    if (this.#client.chat(said.chatId)?.log.get(said.messageId)?.deleted_at === null) return;
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
