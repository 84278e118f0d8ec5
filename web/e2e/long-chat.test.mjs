/**
 * A chat of thousands of messages, scrolled up to its first one.
 *
 * WALTALKIE_URL  where it is
 * LONG_CHAT      a chat that alice and bob are in, and how many messages it holds: `id,5000`. They say `line 1` and so on
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { enter, launch, messages, newPage, say } from './browser.mjs';

const [chatId, count] = (process.env.LONG_CHAT ?? '').split(',');

if (!chatId || !count) throw new Error('LONG_CHAT is not set: scripts/test makes such a chat and sets it');

describe('a long chat', { timeout: 300_000 }, () => {
  let browser, here, there;

  before(async () => {
    browser = await launch();
    here = await newPage(browser);
    there = await newPage(browser);
    await enter(here, 'alice', chatId);
    await enter(there, 'bob', chatId);
  });
  after(async () => {
    const problems = [...(here?.problems ?? []), ...(there?.problems ?? [])];
    await browser?.close();
    assert.deepEqual(problems, [], 'no error on any page');
  });

  test('older history comes while one scrolls up, without a jump, and all of it is there in order', async () => {
    await messages(here, `line ${count}`).waitFor();
    const frames = await here.evaluate(async (first) => {
      const scroller = document.querySelector('[data-testid=messages]');
      const times = [];
      let last = performance.now();
      const isThere = () => [...scroller.querySelectorAll('p.body')].some((body) => body.textContent === first);
      while (!isThere()) {
        // As a wheel does: a bit each frame.
        scroller.scrollTop -= 900;
        await new Promise(requestAnimationFrame);
        times.push(performance.now() - last);
        last = performance.now();
      }
      return times.sort((a, b) => a - b);
    }, 'line 1');
    const at = (share) => frames[Math.floor((frames.length - 1) * share)].toFixed(1);
    console.log(`${frames.length} frames: p50 ${at(0.5)} ms, p95 ${at(0.95)} ms, longest ${at(1)} ms`);
    const lines = await here.evaluate(() => [...document.querySelectorAll('[data-testid=messages] p.body')].map((body) => body.textContent));
    const inOrder = Array.from({ length: Number(count) }, (_, place) => `line ${place + 1}`);
    assert.deepEqual(lines.filter((line) => line.startsWith('line ')), inOrder);
  });

  test('what is said meanwhile is seen by those who scroll back to the end', async () => {
    await say(there, 'the end');
    await messages(here, 'the end').waitFor({ state: 'attached' });
    await here.evaluate(() => { document.querySelector('[data-testid=messages]').scrollTop = 0; });
    await messages(here, 'the end').waitFor();
    assert.equal(await messages(here, 'the end').count(), 1);
  });
});
