/** The HTTP side of the server, as far as a client with a screen needs it. The rest is in `/openapi.json`. */
import type { ChatRow, MemberRow } from './chat-state.ts';
import type { Attachment } from './frames.ts';
import { call, WaltalkieError, type CallOptions } from './http.ts';
import type { HistoryPage } from './message-log.ts';
import type { Tokens } from './tokens.ts';

export interface Person {
  user_id: string;
  name: string | null;
}

/** What is missing of an upload, and where to bring it. */
export interface UploadUrls {
  url: string | null;
  headers: Record<string, string>;
  parts: { part_number: number; size_bytes: number; url: string }[];
  part_bytes: number | null;
  uploaded_parts: number[];
  expires_at: string;
}

/** A file with what one may do with it now. */
export interface Media extends Omit<Attachment, 'kind'> {
  chat_id: string;
  user_id: string;
  state: 'uploading' | 'checking' | 'ready' | 'refused';
  kind: string | null;
  /** Of audio: 64 peaks from 0 to 255, in Base64. */
  waveform: string | null;
  notes: string[];
  upload: UploadUrls | null;
  urls: {
    url: string;
    download_url: string;
    previews: { content_type: string; width_px: number; height_px: number; size_bytes: number; url: string }[];
    expires_at: string;
  } | null;
  refusal: string | null;
}

/** What can be changed about a chat. */
export interface Settings {
  name?: string;
  history_for_new_members?: boolean;
}

/** Hours of every day on the clocks of a zone; over midnight if `from` is later than `to`. */
export interface DoNotDisturb {
  from: string;
  to: string;
  time_zone: string;
}

/** How the person is told of messages. */
export interface NotificationSettings {
  in_app: boolean;
  push: boolean;
  email: boolean;
  do_not_disturb: DoNotDisturb | null;
  muted_chat_ids: string[];
  mentions_only_chat_ids: string[];
  content: 'full' | 'sender_only' | 'nothing';
  language: string;
}

/** What to change of them; what is absent stays. */
export interface NotificationChanges {
  in_app?: boolean;
  push?: boolean;
  email?: boolean;
  do_not_disturb?: DoNotDisturb | null;
  mute?: string[];
  unmute?: string[];
  mentions_only?: string[];
  all_messages?: string[];
  content?: NotificationSettings['content'];
  language?: string;
}

/** How people can be told of messages by this server. */
export interface NotificationOptions {
  web_push_public_key: string | null;
  ios: boolean;
  android: boolean;
  email: boolean;
  content: NotificationSettings['content'];
  languages: string[];
}

/** A device to tell. */
export interface Device {
  device_id: string;
  platform: 'web' | 'android' | 'ios';
  name: string | null;
}

/** One that is new, or takes the place of one with its id. */
export interface NewDevice {
  device_id?: string;
  platform: Device['platform'];
  name?: string;
  address: string;
  keys?: { p256dh: string; auth: string };
}

const IDS_PER_QUERY = 50;
/** A film takes its time. */
const COMPLETE_MS = 180_000;

export class Api {
  readonly #url: string;
  readonly #tokens: Tokens;

  constructor(url: string, tokens: Tokens) {
    this.#url = url;
    this.#tokens = tokens;
  }

  /** All chats of the person, page by page. */
  async chats(): Promise<ChatRow[]> {
    const rows: ChatRow[] = [];
    let cursor: string | null = null;
    do {
      const query: string = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`;
      const page: { chats: ChatRow[]; next_cursor?: string | null } = await this.#call('GET', `v1/chats?limit=100${query}`);
      rows.push(...page.chats);
      cursor = page.next_cursor ?? null;
    } while (cursor !== null);
    return rows;
  }

  /**
   * Makes a chat, 1:1 with one other person if it has no name, and gives its id; a 1:1 chat that exists already is given back.
   *
   * @param key a UUID, the same when it is tried again
   */
  async makeChat(memberIds: string[], name: string | null, key: string): Promise<string> {
    const group = memberIds.length !== 1 || name !== null;
    const body = { is_group: group, member_ids: memberIds, ...(name ? { name } : {}) };
    const chat = await this.#call<{ chat_id: string }>('POST', 'v1/chats', body, { 'Idempotency-Key': key });
    return chat.chat_id;
  }

  /** Changes a chat's settings. */
  async change(chatId: string, settings: Settings): Promise<void> {
    await this.#call('PATCH', chat(chatId), settings);
  }

  /** The newest page of history, or the one before `beforeSeq`. */
  history(chatId: string, beforeSeq: number | null, limit: number): Promise<HistoryPage> {
    const before = beforeSeq === null ? '' : `&before_seq=${beforeSeq}`;
    return this.#call('GET', `${chat(chatId)}/messages?limit=${limit}${before}`);
  }

  /** A page of a chat's members by id: the first, or the one at `cursor`. */
  members(chatId: string, cursor: string | null): Promise<{ members: MemberRow[]; next_cursor: string | null }> {
    const from = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`;
    return this.#call('GET', `${chat(chatId)}/members?limit=100${from}`);
  }

  /** Adds people as members. */
  async addMembers(chatId: string, userIds: string[]): Promise<void> {
    await this.#call('POST', `${chat(chatId)}/members`, { user_ids: userIds });
  }

  /** Gives somebody a role. */
  async giveRole(chatId: string, userId: string, role: string): Promise<void> {
    await this.#call('PATCH', `${chat(chatId)}/members/${encodeURIComponent(userId)}`, { role });
  }

  /** Removes somebody, or leaves as `me`. */
  async removeMember(chatId: string, userId: string): Promise<void> {
    await this.#call('DELETE', `${chat(chatId)}/members/${encodeURIComponent(userId)}`);
  }

  /**
   * Begins an upload.
   *
   * @param key a UUID, the same when it is tried again
   */
  beginMedia(chatId: string, file: { name: string; type: string; size: number }, key: string): Promise<Media> {
    const body = { chat_id: chatId, file_name: file.name, content_type: file.type, size_bytes: file.size };
    return this.#call('POST', 'v1/media', body, { 'Idempotency-Key': key });
  }

  /** Says that all bytes are in the store, and waits until the file was looked into. */
  completeMedia(mediaId: string): Promise<Media> {
    return this.#call('POST', `${media(mediaId)}/complete`, undefined, undefined, COMPLETE_MS);
  }

  /** A file with URLs that count for some minutes. */
  media(mediaId: string): Promise<Media> {
    return this.#call('GET', media(mediaId));
  }

  /** Gives up a file that was not posted. */
  async removeMedia(mediaId: string): Promise<void> {
    await this.#call('DELETE', media(mediaId));
  }

  /** Names of people one shares a chat with. */
  async people(ids: string[]): Promise<Person[]> {
    const people: Person[] = [];
    for (let i = 0; i < ids.length; i += IDS_PER_QUERY) {
      const query = ids.slice(i, i + IDS_PER_QUERY).map(encodeURIComponent).join(',');
      people.push(...(await this.#call<{ users: Person[] }>('GET', `v1/users?ids=${query}`)).users);
    }
    return people;
  }

  /** How people can be told of messages by this server. */
  notificationOptions(): Promise<NotificationOptions> {
    return this.#call('GET', 'v1/notifications');
  }

  /** How the person is told of messages. */
  notificationSettings(): Promise<NotificationSettings> {
    return this.#call('GET', 'v1/users/me/settings');
  }

  /** Changes that, and gives it as it is then. */
  changeNotificationSettings(changes: NotificationChanges): Promise<NotificationSettings> {
    return this.#call('PATCH', 'v1/users/me/settings', changes);
  }

  /** The person's devices. */
  async devices(): Promise<Device[]> {
    return (await this.#call<{ devices: Device[] }>('GET', 'v1/users/me/devices')).devices;
  }

  /** Adds a device, or replaces one of the same id. */
  addDevice(device: NewDevice): Promise<Device> {
    return this.#call('POST', 'v1/users/me/devices', device);
  }

  /** Removes a device. */
  async removeDevice(deviceId: string): Promise<void> {
    await this.#call('DELETE', `v1/users/me/devices/${encodeURIComponent(deviceId)}`);
  }

  async #call<T>(method: string, path: string, body?: unknown, headers?: Record<string, string>, timeoutMs?: number): Promise<T> {
    const options: CallOptions = { body, ...(headers ? { headers } : {}), ...(timeoutMs ? { timeoutMs } : {}) };
    const authorized = async () => call<T>(this.#url, method, path, { ...options, token: await this.#tokens.get() });
    try {
      return await authorized();
    } catch (error) {
      if (!(error instanceof WaltalkieError) || error.status !== 401) throw error;
      this.#tokens.forget();
      return authorized();
    }
  }
}

function chat(chatId: string): string {
  return `v1/chats/${encodeURIComponent(chatId)}`;
}

function media(mediaId: string): string {
  return `v1/media/${encodeURIComponent(mediaId)}`;
}
