/**
 * The example of `examples/`: its backend in a process of its own, its page in two browsers.
 *
 * WALTALKIE_URL                 where Waltalkie is
 * WALTALKIE_AUTH__HS256_SECRET  its key of development
 * EXAMPLE_PORT                  where the backend is to listen: `gateway.allowed_origins` has `http://127.0.0.1:` and this
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { cut, launch, newPage } from './browser.mjs';

const { EXAMPLE_PORT: port } = process.env;
const folder = fileURLToPath(new URL('../../examples/backend', import.meta.url));
const run = randomUUID().slice(0, 8);

if (!port) throw new Error('EXAMPLE_PORT is not set: scripts/test sets it');

describe('the example page', { timeout: 120_000 }, () => {
  let backend, browser, erin, frank;

  async function logIn(name) {
    const page = await newPage(browser);
    await page.goto(`http://127.0.0.1:${port}/`);
    await page.getByLabel('Name').fill(name);
    await page.keyboard.press('Enter');
    await state(page, 'connected').waitFor();
    return page;
  }
  const state = (page, text) => page.getByRole('status').filter({ hasText: text });
  const line = (page, text) => page.getByRole('listitem').filter({ hasText: new RegExp(`^${text}$`) });
  async function say(page, text) {
    await page.getByLabel('Message').fill(text);
    await page.keyboard.press('Enter');
  }

  before(async () => {
    backend = spawn(process.execPath, ['server.js'], { cwd: folder, env: { ...process.env, PORT: port }, stdio: ['ignore', 'pipe', 'inherit'] });
    await Promise.race([once(backend.stdout, 'data'), once(backend, 'exit').then(([code]) => assert.fail(`the backend ended with ${code}`))]);
    browser = await launch();
    [erin, frank] = [await logIn('erin'), await logIn('frank')];
  });
  after(async () => {
    const problems = [...(erin?.problems ?? []), ...(frank?.problems ?? [])];
    await browser?.close();
    backend?.kill();
    assert.deepEqual(problems, [], 'no error on any page');
  });

  test('the page has 40 lines', async () => {
    const page = await readFile(new URL('../../examples/page/index.html', import.meta.url), 'utf8');
    assert.ok(page.trimEnd().split('\n').length <= 40);
  });

  test('two who log in talk, and see that the other types', async () => {
    // Typing is told of chats that are known, and just after the connection none is.
    while (!(await erin.getByText('frank types …').isVisible())) {
      await frank.getByLabel('Message').press('h');
      await frank.waitForTimeout(100);
    }
    await say(erin, `hello ${run}`);
    await line(frank, `erin: hello ${run}`).waitFor();
  });

  test('what was said is there after a reload', async () => {
    await erin.reload();
    await line(erin, `erin: hello ${run}`).waitFor();
    assert.equal(await line(erin, `erin: hello ${run}`).count(), 1);
  });

  test('what is said without a network goes out once it is back, once', async () => {
    await cut(erin);
    await state(erin, 'offline').waitFor();
    await say(erin, `later ${run}`);
    await line(erin, `later ${run} …`).waitFor();
    await erin.context().setOffline(false);
    await line(frank, `erin: later ${run}`).waitFor();
    assert.equal(await line(frank, `erin: later ${run}`).count(), 1);
  });
});
