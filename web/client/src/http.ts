/** One HTTP call to the server, and what can come of it. */

/**
 * A refusal: of a request, or of a command over the socket. `code` is one of docs/api.md's, or `unreachable`, `closed`
 * or `stopped` where no server said it.
 */
export class WaltalkieError extends Error {
  readonly code: string;
  /** Of HTTP; 0 where there was no answer. */
  readonly status: number;

  constructor(code: string, message: string, status = 0) {
    super(message);
    this.name = 'WaltalkieError';
    this.code = code;
    this.status = status;
  }
}

const TIMEOUT_MS = 15_000;

/** Where `path` is on the server at `url`, which may have a path of its own. */
export function endpoint(url: string, path: string): string {
  return new URL(path, url.endsWith('/') ? url : `${url}/`).href;
}

export interface CallOptions {
  token?: string;
  body?: unknown;
  headers?: Record<string, string>;
  timeoutMs?: number;
}

/** Asks and gives the answer's JSON; anything but success is a `WaltalkieError`. */
export async function call<T>(url: string, method: string, path: string, { token, body, headers = {}, timeoutMs = TIMEOUT_MS }: CallOptions): Promise<T> {
  let response: Response;
  try {
    response = await fetch(endpoint(url, path), {
      method,
      headers: {
        Accept: 'application/json',
        ...(token === undefined ? {} : { Authorization: `Bearer ${token}` }),
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      cache: 'no-store',
      credentials: 'omit',
      signal: AbortSignal.timeout(timeoutMs),
    });
  } catch {
    throw new WaltalkieError('unreachable', 'The server can’t be reached.');
  }
  const value: unknown = await response.json().catch(() => null);
  if (response.ok) return value as T;
  const problem = (value ?? {}) as { code?: string; detail?: string; title?: string };
  throw new WaltalkieError(problem.code ?? 'unknown', problem.detail ?? problem.title ?? `The server answered ${response.status}.`, response.status);
}
