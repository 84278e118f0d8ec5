/** From what a person does to outbox, storage and the other tabs. The order of these three is the point. */
import { newId, type Attachment, type Client, type Command, type OutboxChanges } from '@waltalkie/client';
import { OutboxStore } from '../net/outbox-store.ts';
import { Tabs, type TabNews } from '../net/tabs.ts';

export class Outgoing {
  readonly #client: Client;
  readonly #onChange: (chatId: string) => void;
  readonly #store: OutboxStore;
  readonly #tabs: Tabs;
  #leads = false;

  /** @param onChange a chat's outbox changed otherwise than by the client */
  constructor(me: string, client: Client, onChange: (chatId: string) => void) {
    this.#client = client;
    this.#onChange = onChange;
    client.session.sends = false;
    client.on('outbox', (changes) => this.#settle(changes));
    this.#store = new OutboxStore(me);
    this.#tabs = new Tabs(me, () => void this.#lead(), (news) => this.#heard(news));
    void this.#load();
  }

  /** Sends a text, uploaded files, or both. It is kept before it goes out, so that from here on it can't be lost. */
  send(chatId: string, content: string, attachments: readonly Attachment[], parentId: string | null): Promise<void> {
    const id = newId();
    const parent = parentId === null ? {} : { parent_message_id: parentId };
    return this.#add({ op_id: id, kind: 'send', chat_id: chatId, message_id: id, content, ...(attachments.length > 0 ? { attachments } : {}), ...parent, created_ms: Date.now(), failure: null });
  }

  /** Replaces the body of an own message. */
  edit(chatId: string, messageId: string, content: string): Promise<void> {
    return this.#add({ op_id: newId(), kind: 'edit', chat_id: chatId, message_id: messageId, content, created_ms: Date.now(), failure: null });
  }

  /** Deletes a message. */
  remove(chatId: string, messageId: string): Promise<void> {
    return this.#add({ op_id: newId(), kind: 'delete', chat_id: chatId, message_id: messageId, content: null, created_ms: Date.now(), failure: null });
  }

  /** Tries a refused command again, as the last one in order. */
  async retry(opId: string): Promise<void> {
    const entry = this.#client.session.outbox.entries.find(({ op_id }) => op_id === opId);
    if (entry?.phase !== 'failed') return;
    await this.#store.remove(entry.order);
    const { op_id, kind, chat_id, message_id, content, attachments, created_ms, parent_message_id: parent } = entry;
    const answers = parent === undefined ? {} : { parent_message_id: parent };
    await this.#add({ op_id, kind, chat_id, message_id, content, ...(attachments ? { attachments } : {}), ...answers, created_ms, failure: null });
  }

  /** Gives a refused command up. */
  discard(opId: string): void {
    this.#client.session.outbox.drop(opId);
    this.#tabs.tell({ news: 'dropped', opId });
    this.#client.tick();
  }

  /** Lets another tab of this person send. */
  stop(): void {
    this.#tabs.stop();
  }

  /** Stores and tells what the last step of the session did to the outbox. */
  #settle({ changed, settled }: OutboxChanges): void {
    const { outbox } = this.#client.session;
    for (const entry of settled) void this.#store.remove(entry.order);
    if (!this.#leads) return;
    for (const { phase, attempts: _, not_before_ms: __, sent_ms: ___, seq: ____, ...command } of changed) {
      if (phase === 'failed') void this.#store.update(command);
    }
    const trails = [...changed, ...settled].flatMap(({ message_id }): [string, NonNullable<ReturnType<typeof outbox.trail>>][] => {
      const trail = outbox.trail(message_id);
      return trail ? [[message_id, trail]] : [];
    });
    this.#tabs.tell({ news: 'progress', entries: changed, settled: settled.map(({ op_id }) => op_id), trails });
  }

  async #add(command: Omit<Command, 'order'>): Promise<void> {
    const kept = await this.#store.add(command);
    this.#client.session.outbox.add(kept);
    this.#tabs.tell({ news: 'added', command: kept });
    this.#onChange(kept.chat_id);
    this.#client.tick();
  }

  async #load(): Promise<void> {
    for (const command of await this.#store.all()) {
      this.#client.session.outbox.add(command);
      this.#onChange(command.chat_id);
    }
  }

  async #lead(): Promise<void> {
    await this.#load();
    // What the tab before had on its way may or may not have arrived: all of it goes again, by the same ids.
    this.#client.session.outbox.disconnected();
    this.#leads = true;
    this.#client.session.sends = true;
    this.#client.tick();
  }

  #heard(news: TabNews): void {
    const { outbox } = this.#client.session;
    if (news.news === 'added') {
      outbox.add(news.command);
      this.#onChange(news.command.chat_id);
      this.#client.tick();
    } else if (news.news === 'dropped') {
      outbox.drop(news.opId);
      this.#client.tick();
    } else if (!this.#leads) {
      outbox.mirror(news.entries, news.settled, news.trails);
      for (const { chat_id } of news.entries) this.#onChange(chat_id);
    }
  }
}
