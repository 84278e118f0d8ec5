import assert from 'node:assert/strict';
import { afterEach, mock, test } from 'node:test';
import type { Api, Media, UploadUrls } from '../src/api.ts';
import { WaltalkieError } from '../src/http.ts';
import { isTemporary, upload, type UploadFile } from '../src/upload.ts';

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

const part = (number: number) => ({ part_number: number, size_bytes: 2, url: `https://s3/${number}` });

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
  const begun = media({ parts: [part(1), part(2), part(3)], part_bytes: 2 });
  const rest = media({ parts: [part(2)], part_bytes: 2, uploaded_parts: [1, 3] });
  const got = store([200, 500, 200, 200]);
  const { api, asked } = server(begun, [rest], async () => media(null, 'ready'));
  await upload(api, 'c', file('hello'), {});
  assert.deepEqual(got.map(({ url, body }) => `${url} ${body}`), ['https://s3/1 he', 'https://s3/2 ll', 'https://s3/3 o', 'https://s3/2 ll']);
  assert.deepEqual(asked, ['begin', 'media', 'complete']);
});

/** What comes of something whose pauses pass at once. */
async function hurried<T>(work: () => Promise<T>): Promise<T> {
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    let isSettled = false;
    const settle = () => void (isSettled = true);
    const working = work();
    working.then(settle, settle);
    while (!isSettled) {
      await new Promise(setImmediate);
      mock.timers.tick(10_000);
    }
    return await working;
  } finally {
    mock.timers.reset();
  }
}

test('an upload that is begun again while the first try is under way is the same', async () => {
  store([200]);
  const { api } = server(media(null), [], async () => media(null, 'ready'));
  const keys: string[] = [];
  const beginMedia = async (_chat: string, _file: UploadFile, key: string) => {
    keys.push(key);
    if (keys.length === 1) throw new WaltalkieError('idempotency_key_in_use', 'The first one is under way.', 409);
    return media({ url: 'https://s3/1' });
  };
  const hesitant = { ...api, beginMedia } as unknown as Api;
  assert.equal((await hurried(() => upload(hesitant, 'c', file('hello'), {}))).media_id, 'm');
  assert.equal(keys.length, 2);
  assert.equal(new Set(keys).size, 1);
});

test('a part that fails ends the others’ work: what is under way comes through, and nothing else is begun', async () => {
  const begun = media({ parts: [1, 2, 3, 4, 5].map(part), part_bytes: 2 });
  const rest = media({ parts: [1, 4, 5].map(part), part_bytes: 2, uploaded_parts: [2, 3] });
  const { api, asked } = server(begun, [rest], async () => media(null, 'ready'));
  let failures = 1;
  globalThis.fetch = (async (url: string) => {
    asked.push(url.slice(-1));
    if (failures-- > 0) return new Response(null, { status: 500 });
    // Behind the failure.
    await new Promise(setImmediate);
    asked.push(`${url.slice(-1)} is there`);
    return new Response(null);
  }) as unknown as typeof fetch;
  const sent: number[] = [];
  const onStep = (step: { step: string; sent?: number }) => void (step.sent !== undefined && sent.push(step.sent));
  await hurried(() => upload(api, 'c', file('123456789'), { onStep }));
  assert.deepEqual(asked.slice(0, 7), ['begin', '1', '2', '3', '2 is there', '3 is there', 'media']);
  assert.deepEqual(asked.slice(7).filter((what) => what.length === 1), ['1', '4', '5']);
  assert.equal(sent.at(-1), 10 - 1, 'all bytes are counted, once');
});

test('what fails for now is kept, and goes on by its id', async () => {
  const begun = media({ parts: [1, 2, 3].map(part), part_bytes: 2 });
  const rest = media({ parts: [3].map(part), part_bytes: 2, uploaded_parts: [1, 2] });
  const first = server(begun, [rest, rest, rest], async () => media(null, 'ready'));
  store([200, 200, 500, 500, 500, 500]);
  let kept = '';
  const onBegun = (id: string) => void (kept = id);
  await assert.rejects(hurried(() => upload(first.api, 'c', file('hello'), { onBegun })), (error) => isTemporary(error));
  assert.deepEqual(first.asked, ['begin', 'media', 'media', 'media'], 'it isn’t removed');
  assert.equal(kept, 'm');

  const next = server(begun, [rest], async () => media(null, 'ready'));
  const got = store([200]);
  const sent: number[] = [];
  const onStep = (step: { step: string; sent?: number }) => void (step.sent !== undefined && sent.push(step.sent));
  await upload(next.api, 'c', file('hello'), { resume: kept, onStep });
  assert.deepEqual(next.asked, ['media', 'complete']);
  assert.deepEqual(got.map(({ url, body }) => `${url} ${body}`), ['https://s3/3 o']);
  assert.deepEqual([sent[0], sent.at(-1)], [4, 5], 'it goes on where it was');
});

test('what can’t go on begins anew: gone, refused, or another file', async () => {
  const gone = new WaltalkieError('media_not_found', 'There is no such file.', 404);
  for (const found of [() => Promise.reject(gone), async () => media(null, 'refused'), async () => ({ ...media({ url: 'https://s3/0' }), size_bytes: 6 })]) {
    const { api, asked } = server(media({ url: 'https://s3/1' }), [], async () => media(null, 'ready'));
    const got = store([200]);
    await upload(Object.assign(api, { media: found }), 'c', file('hello'), { resume: 'old' });
    assert.deepEqual(asked, ['begin', 'complete']);
    assert.equal(got[0]?.url, 'https://s3/1');
  }
});

test('one that was complete already brings nothing', async () => {
  const got = store([]);
  const { api, asked } = server(media(null), [media(null, 'ready')], async () => media(null, 'ready'));
  assert.equal((await upload(api, 'c', file('hello'), { resume: 'm' })).media_id, 'm');
  assert.deepEqual([asked, got], [['media', 'complete'], []]);
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
