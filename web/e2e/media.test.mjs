/**
 * Files in two pages: attached by button, by drop and by paste, seen on the other side, looked at large, cancelled.
 *
 * The variables are those of two-people.test.mjs.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { deflateSync } from 'node:zlib';
import { api, base, enter, launch, messages, newPage, picture, say, sharedChat, violations } from './browser.mjs';

const [one, other] = (process.env.PEOPLE ?? 'alice,bob').split(',');
const run = randomUUID().slice(0, 8);

if (base === '') throw new Error('WALTALKIE_URL is not set: scripts/test starts a server and sets it');

/** A PNG of colours that run into each other. */
function png(width, height) {
  const rows = Buffer.alloc(height * (1 + width * 3));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * (1 + width * 3) + 1 + x * 3;
      const sea = y > height * 0.6;
      rows[at] = sea ? 20 : Math.round(90 + 150 * (y / height));
      rows[at + 1] = sea ? Math.round(110 + 40 * Math.sin(x / 40 + y / 9)) : Math.round(140 + 60 * (x / width));
      rows[at + 2] = sea ? 150 : Math.round(220 - 80 * (y / height));
    }
  }
  const chunk = (type, data) => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const out = Buffer.alloc(body.length + 8);
    out.writeUInt32BE(data.length);
    body.copy(out, 4);
    out.writeUInt32BE(crc(body), body.length + 4);
    return out;
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width);
  header.writeUInt32BE(height, 4);
  header.set([8, 2, 0, 0, 0], 8);
  return Buffer.concat([Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'), chunk('IHDR', header), chunk('IDAT', deflateSync(rows)), chunk('IEND', Buffer.alloc(0))]);
}

function crc(bytes) {
  let value = ~0;
  for (const byte of bytes) {
    value ^= byte;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  }
  return ~value >>> 0;
}

/** A second of a tone, as WAV. */
function wav() {
  const samples = 8_000;
  const data = Buffer.alloc(samples * 2);
  for (let i = 0; i < samples; i++) data.writeInt16LE(Math.round(12_000 * Math.sin(i / 4) * Math.sin((i / samples) * Math.PI * 3)), i * 2);
  const head = Buffer.alloc(44);
  head.write('RIFF', 0, 'latin1');
  head.writeUInt32LE(36 + data.length, 4);
  head.write('WAVEfmt ', 8, 'latin1');
  head.writeUInt32LE(16, 16);
  head.writeUInt16LE(1, 20);
  head.writeUInt16LE(1, 22);
  head.writeUInt32LE(8_000, 24);
  head.writeUInt32LE(16_000, 28);
  head.writeUInt16LE(2, 32);
  head.writeUInt16LE(16, 34);
  head.write('data', 36, 'latin1');
  head.writeUInt32LE(data.length, 40);
  return Buffer.concat([head, data]);
}

const photo = { name: 'sea.png', mimeType: 'image/png', buffer: png(1_600, 1_000) };

/** Gives files to a page as a drop or a paste would. */
async function hand(page, selector, kind, files) {
  const data = await page.evaluateHandle((list) => {
    const transfer = new DataTransfer();
    for (const { name, type, text } of list) transfer.items.add(new File([text], name, { type }));
    return transfer;
  }, files);
  if (kind === 'drop') {
    await page.dispatchEvent(selector, 'dragover', { dataTransfer: data });
    await page.getByText('Drop files to send them').waitFor();
    await page.dispatchEvent(selector, 'drop', { dataTransfer: data });
  } else {
    await page.evaluate(([target, transfer]) => {
      document.querySelector(target).dispatchEvent(new ClipboardEvent('paste', { clipboardData: transfer, bubbles: true, cancelable: true }));
    }, [selector, data]);
  }
}

function ready(page, name) {
  return page.getByTestId('uploads').locator('li[data-state=ready]', { hasText: name });
}

async function pick(page, ...files) {
  await page.locator('input[type=file]').setInputFiles(files);
}

describe('files', { timeout: 180_000 }, () => {
  let browser, here, there, chatId;

  before(async () => {
    chatId = await sharedChat(one, other);
    browser = await launch();
    here = await newPage(browser);
    there = await newPage(browser);
    await enter(here, one, chatId);
    await enter(there, other, chatId);
  });
  after(async () => {
    const problems = [...(here?.problems ?? []), ...(there?.problems ?? [])];
    await browser?.close();
    assert.deepEqual(problems, [], 'no error on any page');
  });

  test('a photo is sent, and seen on the other side within two seconds', async () => {
    await pick(here, photo);
    await ready(here, 'sea.png').waitFor();
    const began = Date.now();
    await here.getByRole('button', { name: 'Send' }).click();
    const seen = there.getByTestId('picture').last();
    await there.locator('[data-testid=picture][data-shown=true]').last().waitFor();
    const took = Date.now() - began;
    console.log(`a photo was seen on the other side after ${took} ms`);
    assert.ok(took < 2_000, `${took} ms`);
    // What is drawn is the small preview, which has another size than the file.
    const drawn = await seen.locator('img').evaluate((img) => [img.naturalWidth, img.naturalHeight]);
    assert.ok(drawn[0] > 0 && drawn[0] < 1_600, `${drawn}`);
    await here.getByTestId('uploads').waitFor({ state: 'detached' });
    assert.match(await there.locator('.sidebar li a').first().innerText(), /Photo/);
  });

  test('it is looked at large, by mouse and by keyboard', async () => {
    await there.getByTestId('picture').last().click();
    const box = there.getByTestId('lightbox');
    await box.locator('img.shown').waitFor();
    await picture(there, 'media-lightbox-1280');
    assert.deepEqual(await violations(there, 'dialog'), []);
    await there.keyboard.press('Escape');
    await box.waitFor({ state: 'detached' });
  });

  test('several at once: dropped, pasted and picked, with a text', async () => {
    await hand(here, 'section', 'drop', [{ name: `notes ${run}.txt`, type: 'text/plain', text: 'some notes' }]);
    await hand(here, 'textarea', 'paste', [{ name: `data ${run}.csv`, type: 'text/csv', text: 'a,b\n1,2\n' }]);
    await pick(here, { name: 'tone.wav', mimeType: 'audio/wav', buffer: wav() }, { ...photo, name: 'again.png' });
    for (const name of [`notes ${run}.txt`, `data ${run}.csv`, 'tone.wav', 'again.png']) await ready(here, name).waitFor();
    await picture(here, 'media-composer-1280');
    assert.deepEqual(await violations(here), []);
    await say(here, `all of it ${run}`);
    const message = messages(there, `all of it ${run}`);
    await message.waitFor();
    assert.equal(await message.getByTestId('file').count(), 2);
    await message.getByTestId('audio').waitFor();
    await message.locator('[data-testid=picture][data-shown=true]').waitFor();
    // The sound plays; its waveform is not a flat line.
    const bars = await message.locator('svg rect').evaluateAll((rects) => new Set(rects.map((rect) => rect.getAttribute('height'))).size);
    assert.ok(bars > 5, `${bars} heights`);
    await message.getByRole('button', { name: 'Play tone.wav' }).click();
    await there.waitForFunction(() => [...document.querySelectorAll('audio')].some(({ currentTime }) => currentTime > 0));
    // A file is saved under its name.
    const saving = there.waitForEvent('download');
    await message.getByRole('button', { name: `Save notes ${run}.txt` }).click();
    assert.equal((await saving).suggestedFilename(), `notes ${run}.txt`);
    assert.deepEqual(await violations(there), []);
  });

  test('what isn’t what it says is refused in words, and can be taken out', async () => {
    await pick(here, { name: 'page.png', mimeType: 'image/png', buffer: Buffer.from('<!doctype html><script>alert(1)</script>') });
    const failed = here.getByTestId('uploads').locator('li[data-state=failed]');
    await failed.getByText(/declared as image\/png/).waitFor();
    assert.ok(await here.getByRole('button', { name: 'Send' }).isDisabled());
    await picture(here, 'media-refused-1280');
    await failed.getByRole('button', { name: 'Remove page.png' }).click();
    await here.getByTestId('uploads').waitFor({ state: 'detached' });
  });

  test('an upload that fails on its way can be tried again, and one can be cancelled', async () => {
    // The store is away for this page, until it isn't.
    await here.route(/X-Amz-Signature/, (route) => (route.request().method() === 'PUT' ? route.abort() : route.continue()));
    await pick(here, { ...photo, name: 'later.png' });
    const failed = here.getByTestId('uploads').locator('li[data-state=failed]');
    await failed.waitFor({ timeout: 40_000 });
    await here.unroute(/X-Amz-Signature/);
    await failed.getByRole('button', { name: 'Try later.png again' }).click();
    await ready(here, 'later.png').waitFor();
    await here.getByRole('button', { name: 'Remove later.png' }).click();
    // Held back, an upload shows how far it is, and is cancelled.
    await here.route(/X-Amz-Signature/, (route) => (route.request().method() === 'PUT' ? undefined : route.continue()));
    await pick(here, { ...photo, name: 'never.png' });
    await here.getByTestId('uploads').locator('progress').waitFor();
    await here.getByRole('button', { name: 'Cancel never.png' }).click();
    await here.getByTestId('uploads').waitFor({ state: 'detached' });
    await here.unroute(/X-Amz-Signature/);
  });

  test('a deleted message takes its picture along, on both pages', async () => {
    await pick(here, { ...photo, name: 'gone.png' });
    await ready(here, 'gone.png').waitFor();
    await say(here, `goes ${run}`);
    const message = messages(there, `goes ${run}`);
    await message.locator('[data-testid=picture][data-shown=true]').waitFor();
    const { messages: page } = await api(other, `/v1/chats/${encodeURIComponent(chatId)}/messages?limit=1`);
    const mediaId = page[0].attachments[0].media_id;
    const own = messages(here, `goes ${run}`);
    await own.hover();
    await own.getByRole('button', { name: 'Message actions' }).click();
    await here.getByRole('menuitem', { name: 'Delete' }).click();
    await here.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await message.waitFor({ state: 'detached' });
    await assert.rejects(api(other, `/v1/media/${mediaId}`), /404/);
  });

  for (const [name, options] of [
    ['media-1280-light', {}],
    ['media-1280-dark', { colorScheme: 'dark' }],
    ['media-360-light', { viewport: { width: 360, height: 780 } }],
    ['media-360-dark', { viewport: { width: 360, height: 780 }, colorScheme: 'dark' }],
  ]) {
    test(`it can be looked at: ${name}`, async () => {
      const page = await newPage(browser, options);
      await enter(page, other, chatId);
      await page.locator('[data-testid=picture][data-shown=true]').last().waitFor();
      await picture(page, name);
      assert.deepEqual(await violations(page), []);
      const wider = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
      assert.equal(wider, false, 'nothing is wider than the screen');
      assert.deepEqual(page.problems, []);
      await page.context().close();
    });
  }
});
