/**
 * Brings a file to the store: begun at the server, its bytes straight to where the server's URLs lead, and looked into.
 *
 * *Failure*: what the store or the network refuses for a moment is tried again, and of a file that goes in parts only the parts
 * that are missing. What the server refuses for good is a `WaltalkieError`. Cancelled or failed, the server is told, and keeps
 * nothing.
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
  /** Cancels. */
  signal?: CancelSignal;
}

const TRIES = 4;
const AGAIN_MS = 1_000;
/** Parts on their way at a time. */
const AT_ONCE = 3;

/** Uploads a file for a message in a chat; gives what `Client.send` takes. */
export async function upload(api: Api, chatId: string, file: UploadFile, { onStep, signal }: UploadOptions): Promise<Attachment> {
  const key = newId();
  let media: Media | null = null;
  try {
    media = await tried(() => api.beginMedia(chatId, file, key), signal);
    const { media_id: id } = media;
    for (let attempt = 1; ; attempt++) {
      try {
        if (media.upload) await send(media.upload, file as unknown as Blob, (sent) => onStep?.({ step: 'sending', sent, size: file.size }), signal);
        onStep?.({ step: 'checking' });
        return attachment(await tried(() => api.completeMedia(id), signal));
      } catch (error) {
        if (signal?.aborted || !again(error) || attempt >= TRIES) throw error;
        await pause(AGAIN_MS * attempt, signal);
        // New URLs, and those parts only that are missing.
        media = await tried(() => api.media(id), signal);
      }
    }
  } catch (error) {
    if (media) void api.removeMedia(media.media_id).catch(() => undefined);
    throw signal?.aborted ? new WaltalkieError('cancelled', 'The upload was cancelled.') : error;
  }
}

/** A connection that fails, a store that does, and what the server says will pass. */
function again(error: unknown): boolean {
  return error instanceof WaltalkieError && ['unreachable', 'store_failed', 'upload_incomplete', 'media_busy', 'unavailable', 'overloaded'].includes(error.code);
}

/** The server's own answers, tried again while they say that it will pass. */
async function tried<T>(ask: () => Promise<T>, signal: CancelSignal | undefined): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    if (signal?.aborted) throw new WaltalkieError('cancelled', 'The upload was cancelled.');
    try {
      return await ask();
    } catch (error) {
      const passes = error instanceof WaltalkieError && (error.code === 'unreachable' || error.code === 'media_busy' || error.status === 503 || error.status === 429);
      if (!passes || attempt >= 2 * TRIES) throw error;
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
  const left = [...urls.parts];
  const worker = async () => {
    for (let part = left.shift(); part; part = left.shift()) {
      const { part_number: number, url } = part;
      // Without a type: a part's signature has none.
      const piece = new Blob([file.slice((number - 1) * size, Math.min(number * size, file.size))]);
      await put(url, {}, piece, (bytes) => {
        done.set(number, bytes);
        told();
      }, signal);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
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
