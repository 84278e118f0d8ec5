/**
 * Two people in two pages against a running Waltalkie in development mode.
 *
 * WALTALKIE_URL  where it is
 * CHROMIUM       the browser's path, /usr/bin/chromium by default
 * SCREENSHOTS    a folder for pictures at 360 and 1,280 pixels, light and dark
 * PEOPLE         two demonstration people who share a chat, `alice,bob` by default
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { api, base, choose, connection, cut, enter, inList, launch, messages, newPage, picture, say, sharedChat, texts, vanishing, violations } from './browser.mjs';

const [one, other] = (process.env.PEOPLE ?? 'alice,bob').split(',');
const run = randomUUID().slice(0, 8);

if (base === '') throw new Error('WALTALKIE_URL is not set: scripts/test starts a server and sets it');

describe('two people', { timeout: 180_000 }, () => {
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

  test('a message is seen live on the other page, and its sender sees it delivered or read', async () => {
    const text = `live ${run}`;
    await say(here, text);
    await messages(there, text).waitFor();
    await messages(here, text).and(here.locator('[data-status=delivered], [data-status=read]')).waitFor();
  });

  test('a reload keeps it', async () => {
    const text = `kept ${run}`;
    await say(here, text);
    await messages(there, text).waitFor();
    for (const page of [here, there]) {
      await page.reload();
      await messages(page, text).waitFor();
      assert.equal(await messages(page, text).count(), 1);
    }
  });

  test('what is sent offline is kept over a reload of the page, and arrives exactly once and in order', async () => {
    const texts = [1, 2, 3].map((n) => `offline ${n} ${run}`);
    await cut(here);
    await connection(here, 'connected').waitFor({ state: 'detached' });
    for (const text of texts) await say(here, text);
    for (const text of texts) await messages(here, text).and(here.locator('[data-status=pending]')).waitFor();
    await picture(here, 'offline-1280');

    await here.context().setOffline(false);
    await here.reload();
    for (const text of texts) await messages(there, text).waitFor();

    // A later message has made the whole way: whatever was to come twice has come by then.
    const marker = `after ${run}`;
    await say(here, marker);
    await messages(there, marker).waitFor();
    await messages(here, marker).and(here.locator('[data-status=persisted], [data-status=delivered], [data-status=read]')).waitFor();
    for (const page of [here, there]) for (const text of texts) assert.equal(await messages(page, text).count(), 1, text);
    const { messages: history } = await api(other, `/v1/chats/${encodeURIComponent(chatId)}/messages?limit=50`);
    const arrived = history.map(({ content }) => content).filter((content) => content?.startsWith('offline') && content.endsWith(run));
    assert.deepEqual(arrived, texts);
  });

  test('a cut socket comes back by itself, misses nothing, and what was there doesn’t flicker', async () => {
    const vanished = await vanishing(there);
    const shown = await texts(there);
    await cut(there);
    await connection(there, 'connected').waitFor({ state: 'detached' });
    const missed = Array.from({ length: 10 }, (_, place) => `missed ${place} ${run}`);
    for (const text of missed) await say(here, text);
    await messages(here, missed.at(-1)).and(here.locator('[data-status=persisted], [data-status=delivered], [data-status=read]')).waitFor();
    await there.context().setOffline(false);
    await connection(there, 'connected').waitFor();
    await messages(there, missed.at(-1)).waitFor();
    assert.deepEqual(await texts(there), [...shown, ...missed]);
    assert.deepEqual(await vanished(), []);
  });

  test('the title counts what is unread, until it is read', async () => {
    const reader = `reader-${run}`;
    await api(reader, '/v1/users/me');
    const { chat_id: quiet } = await api(one, '/v1/chats', { is_group: false, member_ids: [reader] });
    const page = await newPage(browser);
    await page.goto(`${base}/?as=${reader}`);
    await connection(page, 'connected').waitFor();
    const titled = (pattern) => page.waitForFunction((source) => new RegExp(source).test(document.title), pattern);
    await titled('^[^(].* · Waltalkie$');
    for (const number of [1, 2]) {
      await api(one, `/v1/chats/${encodeURIComponent(quiet)}/messages`, { message_id: randomUUID(), content: `${number} for the title` });
      await titled(`^\\(${number}\\) .* · Waltalkie$`);
    }
    await page.locator('.sidebar li a').first().click();
    await messages(page, '2 for the title').waitFor();
    await titled('^[^(].* · Waltalkie$');
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('a muted chat shows in its own row alone, one of mentions counts those, also where that is set on another device', async () => {
    const reader = `hears-${run}`;
    await api(reader, '/v1/users/me');
    const made = async (name) => (await api(one, '/v1/chats', { is_group: true, name: `${name} ${run}`, member_ids: [reader] })).chat_id;
    const [muted, loud] = [await made('Muted'), await made('Loud')];
    const page = await newPage(browser);
    await page.addInitScript(() => {
      Object.assign(navigator, { setAppBadge: async (count) => void (window.badge = count), clearAppBadge: async () => void (window.badge = 0) });
    });
    await page.goto(`${base}/?as=${reader}`);
    await connection(page, 'connected').waitFor();
    const row = inList(page, `Muted ${run}`);
    await row.waitFor();
    await page.evaluate(() => {
      window.announced = [];
      const region = document.querySelector('[aria-live][aria-atomic]');
      new MutationObserver(() => window.announced.push(region.textContent)).observe(region, { childList: true, characterData: true, subtree: true });
    });
    const hear = (chat, content) => api(one, `/v1/chats/${encodeURIComponent(chat)}/messages`, { message_id: randomUUID(), content });
    const counted = (count) => page.waitForFunction(
      ([count, title]) => window.badge === count && new RegExp(title).test(document.title), [count, count > 0 ? `^\\(${count}\\) ` : '^[^(]'],
    );
    const announced = (text) => page.waitForFunction((text) => window.announced.some((said) => said.endsWith(text)), text);
    const unread = (text) => row.getByText(text, { exact: true }).waitFor({ state: 'attached' });
    // Told to the server only: the page learns it once it connects again.
    const setElsewhere = async (changes) => {
      await api(reader, '/v1/users/me/settings', changes, 'PATCH');
      await page.evaluate(() => window.openedSockets.forEach((socket) => socket.close()));
    };

    await counted(0);
    await hear(muted, 'heard');
    await counted(1);
    await announced('heard');
    await setElsewhere({ mute: [muted] });
    await counted(0);
    await unread('1 unread, muted');
    await connection(page, 'connected').waitFor();
    await hear(muted, `silent, @${reader}`);
    await unread('2 unread, muted');
    await hear(loud, 'as always');
    await counted(1);
    await announced('as always');
    assert.deepEqual(await violations(page), []);

    await setElsewhere({ unmute: [muted], mentions_only: [muted] });
    // What names the person counts from when it does, and was said before.
    await counted(2);
    await unread('2 unread');
    await connection(page, 'connected').waitFor();
    await hear(muted, 'silent for all');
    await unread('3 unread');
    await hear(muted, `look, @${reader}`);
    await counted(3);
    await announced(`look, @${reader}`);
    assert.deepEqual(await page.evaluate(() => window.announced.filter((said) => said.includes('silent'))), []);

    await row.click();
    await counted(1);
    await inList(page, `Loud ${run}`).click();
    await counted(0);
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  test('an edit shows on both pages', async () => {
    const text = `to edit ${run}`;
    const better = `edited ${run}`;
    await say(here, text);
    await messages(there, text).waitFor();
    await choose(here, text, 'Edit');
    await here.getByRole('textbox', { name: 'Edit your message' }).fill(better);
    await here.keyboard.press('Enter');
    for (const page of [there, here]) await messages(page, better).waitFor();
    assert.equal(await messages(there, text).count(), 0);
  });

  test('a deleted body disappears from both pages, and stays away after a reload', async () => {
    const text = `secret ${run}`;
    await say(here, text);
    await messages(there, text).waitFor();
    await choose(here, text, 'Delete');
    await here.getByRole('button', { name: 'Delete', exact: true }).click();
    for (const page of [there, here]) await page.waitForFunction((body) => !document.body.innerText.includes(body), text);
    await messages(there, 'Message deleted').last().waitFor();
    for (const page of [there, here]) {
      await page.reload();
      await messages(page, `edited ${run}`).waitFor();
      assert.ok(!(await page.content()).includes(text));
    }
  });

  test('a message’s details show its way', async () => {
    const text = `way ${run}`;
    await say(here, text);
    await messages(here, text).and(here.locator('[data-status=delivered], [data-status=read]')).waitFor();
    await choose(here, text, 'Its way here');
    const panel = here.getByRole('dialog');
    for (const step of ['Sent', 'Accepted', 'Committed', 'Persisted, answered', 'Published', 'Received here', 'Delivered']) {
      await panel.locator('li:not(.unknown)', { has: here.getByText(step, { exact: true }) }).first().waitFor();
    }
    for (const fact of ['seq', 'LSN', 'partition', 'offset']) await panel.locator('dt', { hasText: fact }).first().waitFor();
    await panel.getByText(`waltalkie tail --chat ${chatId}`).waitFor();
    assert.deepEqual(await violations(here), []);
    await picture(here, 'details-1280');
    await here.keyboard.press('Escape');
    await panel.waitFor({ state: 'detached' });
  });

  test('two tabs of one browser are two people', async () => {
    const [first, second] = [await here.context().newPage(), await here.context().newPage()];
    await enter(first, one, chatId);
    await enter(second, other, chatId);
    const [question, answer] = [`same browser ${run}`, `two people ${run}`];
    await say(first, question);
    await messages(second, question).waitFor();
    await say(second, answer);
    await messages(first, answer).waitFor();
    const { messages: history } = await api(one, `/v1/chats/${encodeURIComponent(chatId)}/messages?limit=10`);
    const senders = [question, answer].map((text) => history.find(({ content }) => content === text).sender_id);
    assert.deepEqual(senders, [one, other]);
    for (const page of [first, second]) await page.close();
  });

  test('who types is named until the message comes', async () => {
    const text = `awaited ${run}`;
    const line = here.getByTestId('typing');
    const preview = here.locator('.sidebar a[aria-current=page]').getByText('typing…', { exact: true });
    await there.getByRole('textbox', { name: /^Message to/ }).fill(text);
    await line.filter({ hasText: other }).filter({ hasText: 'is typing…' }).waitFor();
    await preview.waitFor();
    assert.equal(await there.getByTestId('typing').innerText(), '', 'nobody is told of oneself');
    await there.keyboard.press('Enter');
    await messages(here, text).waitFor();
    // The message and the end of the line are drawn together: not by waiting until it would end by itself.
    assert.equal(await line.innerText(), '');
    assert.equal(await preview.count(), 0);
  });

  test('who is online has a dot and the word, who left has when', async () => {
    const said = here.getByTestId('under-title');
    const dots = here.locator('.sidebar a[aria-current=page], header .about').getByTestId('online');
    await said.filter({ hasText: /^online$/ }).waitFor();
    assert.equal(await dots.count(), 2);
    // Its socket goes with the page.
    await there.goto('about:blank');
    await said.filter({ hasText: /^last seen / }).waitFor({ timeout: 30_000 });
    assert.equal(await dots.count(), 0);
    await enter(there, other, chatId);
    await said.filter({ hasText: /^online$/ }).waitFor();
  });

  test('by keyboard alone: a message is written, found and deleted', async () => {
    const text = `no mouse ${run}`;
    await here.getByRole('textbox', { name: /^Message to/ }).focus();
    await here.keyboard.type(text);
    await here.keyboard.press('Enter');
    await messages(there, text).waitFor();
    await messages(here, text).getByRole('button', { name: 'Message actions' }).focus();
    await here.keyboard.press('Enter');
    await here.getByRole('menuitem', { name: 'Delete' }).focus();
    await here.keyboard.press('Enter');
    await here.getByRole('button', { name: 'Delete', exact: true }).focus();
    await here.keyboard.press('Enter');
    await messages(there, text).waitFor({ state: 'detached' });
  });

  test('new messages are announced to screen readers', async () => {
    const text = `announced ${run}`;
    await say(here, text);
    await there.locator('[aria-live]', { hasText: text }).first().waitFor({ state: 'attached' });
  });

  for (const colorScheme of ['light', 'dark']) {
    for (const width of [360, 1280]) {
      test(`${width} pixels, ${colorScheme}: nothing for axe to find`, async () => {
        const page = await newPage(browser, { viewport: { width, height: width === 360 ? 740 : 800 }, colorScheme });
        await page.goto(base);
        await page.getByRole('link', { name: one }).first().waitFor();
        assert.deepEqual(await violations(page), []);
        await picture(page, `people-${width}-${colorScheme}`);
        await page.goto(`${base}/?as=${one}`);
        await page.locator('.sidebar li a').first().waitFor();
        await connection(page, 'connected').waitFor();
        assert.deepEqual(await violations(page), []);
        await picture(page, `chats-${width}-${colorScheme}`);
        await enter(page, one, chatId);
        await messages(page, `way ${run}`).waitFor();
        assert.deepEqual(await violations(page), []);
        await picture(page, `conversation-${width}-${colorScheme}`);
        assert.deepEqual(page.problems, []);
        await page.context().close();
      });
    }
  }
});
