/** The HTTP side of the server, as far as this client uses it. */
import type { ChatRow, HistoryPage, MemberRow } from '@waltalkie/client';

export interface Person {
  user_id: string;
  name: string | null;
}

/** What can be changed about a chat. */
export interface Settings {
  name?: string;
  history_for_new_members?: boolean;
}

/** An answer that isn't a success; `status` 0 means that there was no answer. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

const TIMEOUT_MS = 15_000;
const IDS_PER_QUERY = 50;

/** The demonstration people. The server answers in development only; elsewhere this is a 404. */
export async function demoPeople(): Promise<Person[]> {
  return (await call<{ users: Person[] }>('GET', '/v1/dev/users')).users;
}

/** A development token for one of them. */
export async function demoToken(userId: string): Promise<{ token: string; expires_at: string }> {
  return call('POST', '/v1/dev/token', { body: { user_id: userId } });
}

/** The calls that need a person. */
export class Api {
  readonly #userId: string;
  #token: Promise<string> | null = null;

  constructor(userId: string) {
    this.#userId = userId;
  }

  /** The present token; the first call, and the first after `forgetToken`, gets a new one. */
  token(): Promise<string> {
    this.#token ??= demoToken(this.#userId).then(
      ({ token }) => token,
      (error: unknown) => {
        this.#token = null;
        throw error;
      },
    );
    return this.#token;
  }

  /** The present token won't do any more. */
  forgetToken(): void {
    this.#token = null;
  }

  /** All chats of the person, page by page. */
  async chats(): Promise<ChatRow[]> {
    const rows: ChatRow[] = [];
    let cursor: string | null = null;
    do {
      const query: string = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`;
      const page: { chats: ChatRow[]; next_cursor?: string | null } = await this.#call('GET', `/v1/chats?limit=100${query}`);
      rows.push(...page.chats);
      cursor = page.next_cursor ?? null;
    } while (cursor !== null);
    return rows;
  }

  /** Changes a chat's settings. */
  async change(chatId: string, settings: Settings): Promise<void> {
    await this.#call('PATCH', `/v1/chats/${encodeURIComponent(chatId)}`, settings);
  }

  /** The newest page of history, or the one before `beforeSeq`. */
  history(chatId: string, beforeSeq: number | null, limit: number): Promise<HistoryPage> {
    const before = beforeSeq === null ? '' : `&before_seq=${beforeSeq}`;
    return this.#call('GET', `/v1/chats/${encodeURIComponent(chatId)}/messages?limit=${limit}${before}`);
  }

  /** A page of a chat's members by id: the first, or the one at `cursor`. */
  members(chatId: string, cursor: string | null): Promise<{ members: MemberRow[]; next_cursor: string | null }> {
    return this.#call('GET', `${members(chatId)}?limit=100${cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`}`);
  }

  /** Adds people as members. */
  async addMembers(chatId: string, userIds: string[]): Promise<void> {
    await this.#call('POST', members(chatId), { user_ids: userIds });
  }

  /** Gives somebody a role. */
  async giveRole(chatId: string, userId: string, role: string): Promise<void> {
    await this.#call('PATCH', `${members(chatId)}/${encodeURIComponent(userId)}`, { role });
  }

  /** Removes somebody, or leaves as `me`. */
  async removeMember(chatId: string, userId: string): Promise<void> {
    await this.#call('DELETE', `${members(chatId)}/${encodeURIComponent(userId)}`);
  }

  /** Names of people one shares a chat with. */
  async people(ids: string[]): Promise<Person[]> {
    const people: Person[] = [];
    for (let i = 0; i < ids.length; i += IDS_PER_QUERY) {
      const query = ids.slice(i, i + IDS_PER_QUERY).map(encodeURIComponent).join(',');
      people.push(...(await this.#call<{ users: Person[] }>('GET', `/v1/users?ids=${query}`)).users);
    }
    return people;
  }

  /** Makes a chat; a 1:1 chat that exists already is given back. */
  async makeChat(memberIds: string[], name: string | null, key: string): Promise<string> {
    const group = memberIds.length !== 1 || name !== null;
    const body = { is_group: group, member_ids: memberIds, ...(name ? { name } : {}) };
    const chat = await this.#call<{ chat_id: string }>('POST', '/v1/chats', body, { 'Idempotency-Key': key });
    return chat.chat_id;
  }

  async #call<T>(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<T> {
    const authorized = async () => call<T>(method, path, { body, headers: { ...headers, Authorization: `Bearer ${await this.token()}` } });
    try {
      return await authorized();
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 401) throw error;
      this.forgetToken();
      return authorized();
    }
  }
}

function members(chatId: string): string {
  return `/v1/chats/${encodeURIComponent(chatId)}/members`;
}

/** What went wrong, as a person reads it. */
export function problemOf(error: unknown): string {
  return error instanceof ApiError ? error.message : 'Something went wrong. Try again.';
}

async function call<T>(method: string, path: string, options: { body?: unknown; headers?: Record<string, string> } = {}): Promise<T> {
  const headers: Record<string, string> = { Accept: 'application/json', ...options.headers };
  if (options.body !== undefined) headers['Content-Type'] = 'application/json';
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      headers,
      ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
      cache: 'no-store',
      credentials: 'omit',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch {
    throw new ApiError(0, 'unreachable', 'The server can’t be reached.');
  }
  const value: unknown = await response.json().catch(() => null);
  if (response.ok) return value as T;
  const problem = (value ?? {}) as { code?: string; detail?: string; title?: string };
  throw new ApiError(response.status, problem.code ?? 'unknown', problem.detail ?? problem.title ?? `The server answered ${response.status}.`);
}
