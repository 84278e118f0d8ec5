/**
 * Brings a file to the store: begun at the server, its bytes straight to where the server's URLs lead, and looked into.
 *
 * *Failure*: what the store or the network refuses for a moment is tried again, and of a file that goes in parts only the parts
 * that are missing. Where that doesn't pass, what is there is kept, and `resume` goes on with it later. What the server refuses for
 * good is a `WaltalkieError`. Cancelled or refused, the server is told, and keeps nothing.
 */
import type { Api, Media, UploadUrls } from './api.ts';
import type { Attachment } from './frames.ts';
import { WaltalkieError } from './http.ts';
import { newId } from './ids.ts';

/** A `File` of a browser, or any `Blob` with a name; spelled out, so that programs without a browser's types can use it. */
export interface UploadFile {
  readonly name: string;
  readonly type: string;
  readonly size: number;
  slice(start?: number, end?: number): unknown;
}

/** An `AbortSignal`, likewise. */
export interface CancelSignal {
  readonly aborted: boolean;
  addEventListener(type: 'abort', listener: () => void, options?: { once?: boolean }): void;
  removeEventListener(type: 'abort', listener: () => void): void;
}

/** Where an upload is: bytes on their way, or all there and being looked into. */
export type UploadStep = { step: 'sending'; sent: number; size: number } | { step: 'checking' };

export interface UploadOptions {
  onStep?: (step: UploadStep) => void;
  /** Told the upload's `media_id` as soon as it has one: what `resume` takes, should it fail. */
  onBegun?: (mediaId: string) => void;
  /** An upload of the same file that failed, in the same chat: goes on with it. One that is gone begins anew. */
  resume?: string | null;
  /** Cancels. */
  signal?: CancelSignal;
}

const TRIES = 4;
const AGAIN_MS = 1_000;
/** Parts on their way at a time. */
const AT_ONCE = 3;

/** Uploads a file for a message in a chat; gives what `Client.send` takes. */
export async function upload(api: Api, chatId: string, file: UploadFile, { onStep, onBegun, resume, signal }: UploadOptions): Promise<Attachment> {
  let id = resume ?? null;
  try {
    let media: Media = (id === null ? null : await kept(api, id, file, signal)) ?? (await begun(api, chatId, file, signal));
    const { media_id } = media;
    id = media_id;
    onBegun?.(id);
    for (let attempt = 1; ; attempt++) {
      try {
        if (media.upload) await send(media.upload, file as unknown as Blob, (sent) => onStep?.({ step: 'sending', sent, size: file.size }), signal);
        onStep?.({ step: 'checking' });
        return attachment(await tried(() => api.completeMedia(media_id), signal));
      } catch (error) {
        if (signal?.aborted || !isTemporary(error) || attempt >= TRIES) throw error;
        await pause(AGAIN_MS * attempt, signal);
        // New URLs, and those parts only that are missing.
        media = await tried(() => api.media(media_id), signal);
      }
    }
  } catch (error) {
    if (id !== null && (signal?.aborted || !isTemporary(error))) void api.removeMedia(id).catch(() => undefined);
    throw signal?.aborted ? new WaltalkieError('cancelled', 'The upload was cancelled.') : error;
  }
}

function begun(api: Api, chatId: string, file: UploadFile, signal: CancelSignal | undefined): Promise<Media> {
  const key = newId();
  return tried(() => api.beginMedia(chatId, file, key), signal);
}

/** What the server has of an upload, unless that is gone, was refused or is another file's. */
async function kept(api: Api, mediaId: string, file: UploadFile, signal: CancelSignal | undefined): Promise<Media | null> {
  try {
    const media = await tried(() => api.media(mediaId), signal);
    return media.state !== 'refused' && media.size_bytes === file.size ? media : null;
  } catch (error) {
    if (error instanceof WaltalkieError && error.status === 404) return null;
    throw error;
  }
}

/** Whether it may work later: a connection that fails, a store that does, and what the server says will pass. */
export function isTemporary(error: unknown): boolean {
  return error instanceof WaltalkieError && (error.status === 429 || error.status === 503 ||
    ['unreachable', 'store_failed', 'upload_incomplete', 'media_busy', 'unavailable', 'overloaded'].includes(error.code));
}

/** The server's own answers, tried again while they say that it will pass. */
async function tried<T>(ask: () => Promise<T>, signal: CancelSignal | undefined): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    if (signal?.aborted) throw new WaltalkieError('cancelled', 'The upload was cancelled.');
    try {
      return await ask();
    } catch (error) {
      const isForNow = error instanceof WaltalkieError && (['unreachable', 'media_busy', 'idempotency_key_in_use'].includes(error.code) || error.status === 503 || error.status === 429);
      if (!isForNow || attempt >= 2 * TRIES) throw error;
      await pause(AGAIN_MS * Math.min(attempt, 4), signal);
    }
  }
}

async function send(urls: UploadUrls, file: Blob, onSent: (bytes: number) => void, signal: CancelSignal | undefined): Promise<void> {
  if (urls.url !== null) {
    // Browsers count for themselves, and forbid to say it.
    const headers = Object.fromEntries(Object.entries(urls.headers).filter(([name]) => name !== 'content-length'));
    await put(urls.url, headers, file, onSent, signal);
    return;
  }
  const size = urls.part_bytes ?? file.size;
  const done = new Map<number, number>(urls.uploaded_parts.map((number) => [number, Math.min(size, file.size - (number - 1) * size)]));
  const told = () => onSent([...done.values()].reduce((sum, bytes) => sum + bytes, 0));
  told();
  const left = [...urls.parts];
  const worker = async () => {
    for (let part = left.shift(); part; part = left.shift()) {
      const { part_number: number, url } = part;
      // Without a type: a part's signature has none.
      const piece = new Blob([file.slice((number - 1) * size, Math.min(number * size, file.size))]);
      try {
        await put(url, {}, piece, (bytes) => {
          done.set(number, bytes);
          told();
        }, signal);
      } catch (error) {
        // The others begin no more, and what they have under way comes to its end: it needn't be sent again.
        left.length = 0;
        throw error;
      }
    }
  };
  const ended = await Promise.allSettled(Array.from({ length: AT_ONCE }, worker));
  const failed = ended.find((one) => one.status === 'rejected');
  if (failed) throw failed.reason;
}

/** One request to the store. Browsers tell how far an upload is only of an XMLHttpRequest. */
function put(url: string, headers: Record<string, string>, body: Blob, onSent: (bytes: number) => void, signal: CancelSignal | undefined): Promise<void> {
  const failed = (status: number) => new WaltalkieError('store_failed', 'The store of files doesn’t take it just now.', status);
  if (typeof XMLHttpRequest === 'undefined') {
    return fetch(url, { method: 'PUT', headers, body, ...(signal ? { signal: signal as AbortSignal } : {}) }).then(
      (response) => {
        if (!response.ok) throw failed(response.status);
        onSent(body.size);
      },
      () => {
        throw failed(0);
      },
    );
  }
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    request.open('PUT', url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded }) => onSent(loaded);
    request.onload = () => (request.status >= 200 && request.status < 300 ? resolve() : reject(failed(request.status)));
    request.onerror = request.onabort = request.ontimeout = () => reject(failed(0));
    request.onloadend = () => signal?.removeEventListener('abort', abort);
    signal?.addEventListener('abort', abort);
    if (signal?.aborted) return reject(failed(0));
    request.send(body);
  });
}

function attachment({ media_id, kind, file_name, content_type, size_bytes, width_px, height_px, duration_ms, thumbhash }: Media): Attachment {
  return { media_id, kind: kind ?? 'file', file_name, content_type, size_bytes, width_px, height_px, duration_ms, thumbhash };
}

function pause(ms: number, signal: CancelSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}
