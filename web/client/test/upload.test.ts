import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import type { Api, Media, UploadUrls } from '../src/api.ts';
import { WaltalkieError } from '../src/http.ts';
import { upload, type UploadFile } from '../src/upload.ts';

const realFetch = globalThis.fetch;
afterEach(() => {
  globalThis.fetch = realFetch;
});

function media(upload: Partial<UploadUrls> | null, state: Media['state'] = 'uploading'): Media {
  const urls = upload && { url: null, headers: {}, parts: [], part_bytes: null, uploaded_parts: [], expires_at: '', ...upload };
  return {
    media_id: 'm', chat_id: 'c', user_id: 'u', state, kind: 'file', file_name: 'a', content_type: 't/t', size_bytes: 5, width_px: null, height_px: null,
    duration_ms: null, thumbhash: null, waveform: null, notes: [], upload: urls, urls: null, refusal: null,
  };
}

function file(text: string): UploadFile {
  return Object.assign(new Blob([text], { type: 't/t' }), { name: 'a' });
}

/** A server that begins with these URLs, and is asked for these later. */
function server(begun: Media, later: Media[], complete: () => Promise<Media>) {
  const asked: string[] = [];
  const api = {
    beginMedia: async () => (asked.push('begin'), begun),
    media: async () => (asked.push('media'), later.shift() ?? begun),
    completeMedia: async () => (asked.push('complete'), complete()),
    removeMedia: async () => void asked.push('remove'),
  };
  return { api: api as unknown as Api, asked };
}

/** A store that answers so, one after another, and what it got. */
function store(statuses: number[]) {
  const got: { url: string; headers: unknown; body: string }[] = [];
  globalThis.fetch = (async (url: string, { body, headers }: { body: Blob; headers: unknown }) => {
    got.push({ url, headers, body: await body.text() });
    return new Response(null, { status: statuses.shift() ?? 200 });
  }) as unknown as typeof fetch;
  return got;
}

test('a small file goes in one piece, with the headers that were signed', async () => {
  const got = store([200]);
  const { api, asked } = server(media({ url: 'https://s3/1', headers: { 'content-type': 't/t', 'content-length': '5' } }), [], async () => media(null, 'ready'));
  const steps: string[] = [];
  const attachment = await upload(api, 'c', file('hello'), { onStep: ({ step }) => steps.push(step) });
  assert.equal(attachment.media_id, 'm');
  assert.deepEqual(got, [{ url: 'https://s3/1', headers: { 'content-type': 't/t' }, body: 'hello' }]);
  assert.deepEqual(asked, ['begin', 'complete']);
  assert.deepEqual(steps, ['sending', 'checking']);
});

test('of a large file only the parts that are missing go again', async () => {
  const part = (number: number) => ({ part_number: number, size_bytes: 2, url: `https://s3/${number}` });
  const begun = media({ parts: [part(1), part(2), part(3)], part_bytes: 2 });
  const rest = media({ parts: [part(2)], part_bytes: 2, uploaded_parts: [1, 3] });
  const got = store([200, 500, 200, 200]);
  const { api, asked } = server(begun, [rest], async () => media(null, 'ready'));
  await upload(api, 'c', file('hello'), {});
  assert.deepEqual(got.map(({ url, body }) => `${url} ${body}`), ['https://s3/1 he', 'https://s3/2 ll', 'https://s3/3 o', 'https://s3/2 ll']);
  assert.deepEqual(asked, ['begin', 'media', 'complete']);
});

test('what is refused for good is told, and nothing of it is kept', async () => {
  store([200]);
  const refused = new WaltalkieError('media_refused', 'The file is refused: it is damaged.', 422);
  const { api, asked } = server(media({ url: 'https://s3/1' }), [], () => Promise.reject(refused));
  await assert.rejects(upload(api, 'c', file('hello'), {}), { code: 'media_refused' });
  assert.deepEqual(asked, ['begin', 'complete', 'remove']);
});

test('cancelled, it ends and the server is told', async () => {
  const abort = new AbortController();
  globalThis.fetch = ((_url: string, { signal }: { signal: AbortSignal }) =>
    new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(new Error('aborted')));
      abort.abort();
    })) as unknown as typeof fetch;
  const { api, asked } = server(media({ url: 'https://s3/1' }), [], async () => media(null, 'ready'));
  await assert.rejects(upload(api, 'c', file('hello'), { signal: abort.signal }), { code: 'cancelled' });
  assert.deepEqual(asked, ['begin', 'remove']);
});
