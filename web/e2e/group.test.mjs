/**
 * What people do in groups and with messages, in their pages: from an empty page to a group with roles, replies, drafts
 * and receipts.
 *
 * WALTALKIE_URL  where it is
 * SCREENSHOTS    a folder for pictures
 * PEOPLE         two people, `alice,bob` by default; more are made
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { api, base, choose, connection, enter, inList, kept, launch, messages, newPage, picture, say, violations } from './browser.mjs';

const [one, other] = (process.env.PEOPLE ?? 'alice,bob').split(',');
const run = randomUUID().slice(0, 8);
const third = `carol-${run}`;
const newcomer = `newcomer-${run}`;
const name = `Harbour ${run}`;

const textbox = (page) => page.getByRole('textbox', { name: /^Message to/ });
const dialog = (page) => page.getByRole('dialog').last();
const member = (page, id) => page.getByTestId('member').filter({ hasText: new RegExp(id, 'i') });
const about = async (page) => page.getByRole('button', { name: /^About/ }).click();

/** Finds somebody by id in an open people picker and takes them, by keyboard alone. */
async function pick(page, id) {
  const field = page.getByRole('textbox', { name: 'Find people' });
  await field.fill(id);
  await page.getByRole('checkbox', { name: new RegExp(id, 'i') }).first().waitFor();
  await field.press('Enter');
  await page.getByRole('button', { name: new RegExp(`^Remove .*${id}`, 'i') }).or(page.locator('.chip')).last().waitFor();
}

describe('a group', { timeout: 180_000 }, () => {
  let browser, here, there, chatId;

  before(async () => {
    for (const person of [one, other, third, newcomer]) await api(person, '/v1/users/me');
    browser = await launch();
    [here, there] = [await newPage(browser), await newPage(browser)];
    for (const [page, person] of [[here, one], [there, other]]) {
      await page.goto(`${base}/?as=${person}`);
      await connection(page, 'connected').waitFor();
    }
  });
  after(async () => {
    const problems = [...(here?.problems ?? []), ...(there?.problems ?? [])];
    await browser?.close();
    assert.deepEqual(problems, [], 'no error on any page');
  });

  test('an empty page leads to a first chat, and an empty chat to a first message', async () => {
    const page = await newPage(browser);
    await page.goto(`${base}/?as=${newcomer}`);
    await page.getByText('No chats yet.').waitFor();
    await picture(page, 'no-chats-1280');
    await page.getByRole('button', { name: 'Start one' }).click();
    await page.getByRole('textbox', { name: 'Find people' }).fill('nobody at all');
    await page.getByText(/^Nobody is called/).waitFor();
    await pick(page, other);
    await picture(page, 'new-chat-1280');
    await page.getByRole('button', { name: 'Start the chat' }).click();
    await page.getByText('Nothing was said here yet.').waitFor();
    await say(page, `first ${run}`);
    await inList(there, `first ${run}`).waitFor();
    await page.context().close();
  });

  test('somebody who isn’t there can’t be written to, and the server’s reason is shown', async () => {
    await here.getByRole('button', { name: 'New chat' }).click();
    await pick(here, `ghost-${run}`);
    await here.getByRole('button', { name: 'Start the chat' }).click();
    await dialog(here).getByRole('alert').filter({ hasText: /./ }).waitFor();
    await here.keyboard.press('Escape');
    await dialog(here).waitFor({ state: 'detached' });
  });

  test('a group is made, and those in it see it at once', async () => {
    await here.getByRole('button', { name: 'New chat' }).click();
    await pick(here, other);
    await here.getByRole('checkbox', { name: /^As a group/ }).check();
    await here.getByRole('textbox', { name: 'Name of the group' }).fill(name);
    await here.getByRole('button', { name: 'Start the group' }).click();
    await textbox(here).waitFor();
    chatId = decodeURIComponent(new URL(here.url()).hash.replace('#/chats/', ''));
    await inList(there, name).click();
    await textbox(there).waitFor();
  });

  test('members: added, given a role, removed; each sees what their role allows', async () => {
    await about(here);
    await dialog(here).getByRole('button', { name: 'Add people' }).click();
    await pick(here, third);
    await here.getByRole('button', { name: 'Add', exact: true }).click();
    await member(here, third).waitFor();
    await there.getByText(/added/).filter({ hasText: third }).waitFor();

    await about(there);
    await member(there, third).waitFor();
    assert.equal(await dialog(there).getByRole('button', { name: /^Remove|Add people|Rename/ }).count(), 0, 'members manage nothing');
    await member(here, other).getByRole('combobox').selectOption('admin');
    await dialog(there).getByRole('button', { name: 'Add people' }).waitFor();
    assert.equal(await dialog(there).getByRole('combobox', { name: /^Role of/ }).count(), 0, 'admins give no roles');

    await dialog(there).getByRole('button', { name: new RegExp(`Remove .*${third}`, 'i') }).click();
    await dialog(there).getByRole('button', { name: 'Remove', exact: true }).click();
    for (const page of [here, there]) await member(page, third).waitFor({ state: 'detached' });
    await dialog(there).getByRole('button', { name: 'Add people' }).click();
    await pick(there, third);
    await dialog(there).getByRole('button', { name: 'Add', exact: true }).click();
    for (const page of [here, there]) await member(page, third).waitFor();
  });

  test('how one hears of a group is one’s own, and kept', async () => {
    const heard = dialog(there).getByRole('combobox', { name: 'Notifications' });
    assert.equal(await heard.inputValue(), 'all');
    for (const choice of ['mentions', 'muted', 'all']) {
      await heard.selectOption(choice);
      await kept(other, ({ muted_chat_ids, mentions_only_chat_ids }) =>
        muted_chat_ids.includes(chatId) === (choice === 'muted') && mentions_only_chat_ids.includes(chatId) === (choice === 'mentions'));
    }
    assert.equal(await dialog(here).getByRole('combobox', { name: 'Notifications' }).inputValue(), 'all');
  });

  test('a group gets another name, and keeps its last owner', async () => {
    await dialog(there).getByRole('textbox', { name: 'Name' }).fill(`${name} again`);
    await dialog(there).getByRole('button', { name: 'Rename' }).click();
    await inList(here, `${name} again`).waitFor();
    await dialog(here).getByRole('button', { name: 'Leave the group' }).click();
    await dialog(here).getByRole('button', { name: 'Leave', exact: true }).click();
    await dialog(here).getByRole('alert').filter({ hasText: /owner/ }).waitFor();
    for (const page of [here, there]) {
      await page.keyboard.press('Escape');
      await dialog(page).waitFor({ state: 'detached' });
    }
  });

  test('a reply shows what it answers', async () => {
    await say(here, `question ${run}`);
    await messages(there, `question ${run}`).waitFor();
    await choose(there, `question ${run}`, 'Reply');
    await there.getByTestId('reply').getByText(`question ${run}`).waitFor();
    await say(there, `answer ${run}`);
    for (const page of [here, there]) await messages(page, `answer ${run}`).locator('button.answered', { hasText: `question ${run}` }).waitFor();
    assert.equal(await there.getByTestId('reply').count(), 0, 'the next message answers nothing');
    const { messages: history } = await api(third, `/v1/chats/${encodeURIComponent(chatId)}/messages?limit=5`);
    const [question, answer] = [`question ${run}`, `answer ${run}`].map((text) => history.find(({ content }) => content === text));
    assert.equal(answer.parent_message_id, question.message_id);
  });

  test('from a reply one gets to the quoted message, however far up it is', async () => {
    const path = `/v1/chats/${encodeURIComponent(chatId)}/messages`;
    const question = (await api(one, `${path}?limit=50`)).messages.find(({ content }) => content === `question ${run}`);
    // More than one page has, even one that reaches back to where the unread begins.
    for (let from = 1; from <= 220; from += 55) {
      await Promise.all(Array.from({ length: 55 }, (_, place) => api(one, path, { content: `filler ${from + place} ${run}` })));
    }
    await api(one, path, { content: `far away ${run}`, parent_message_id: question.message_id });
    await here.reload();
    const reply = messages(here, `far away ${run}`);
    await reply.locator('button.answered', { hasText: `question ${run}` }).waitFor();
    assert.equal(await messages(here, `question ${run}`).count(), 0, 'it is beyond what is loaded');
    await reply.locator('button.answered').click();
    await messages(here, `question ${run}`).and(here.locator(':focus')).waitFor();
    const [shown, room] = [await messages(here, `question ${run}`).boundingBox(), await here.getByTestId('messages').boundingBox()];
    assert.ok(shown.y >= room.y && shown.y + shown.height <= room.y + room.height, 'it is in sight');
  });

  test('an admin deletes another’s message; it disappears from the quotes too, and stays away', async () => {
    await here.getByRole('button', { name: /go to the newest/i }).click();
    await say(here, `regret ${run}`);
    await messages(there, `regret ${run}`).waitFor();
    await choose(there, `regret ${run}`, 'Reply');
    await say(there, `quoting ${run}`);
    await messages(here, `quoting ${run}`).locator('button.answered', { hasText: `regret ${run}` }).waitFor();
    await choose(there, `regret ${run}`, 'Delete');
    await there.getByRole('button', { name: 'Delete', exact: true }).click();
    for (const page of [here, there]) {
      await messages(page, `quoting ${run}`).locator('button.answered', { hasText: 'Message deleted' }).waitFor();
      await page.waitForFunction((body) => !document.body.innerText.includes(body), `regret ${run}`);
    }
    // A page that is loaded before the server has heard what was read begins where that ends, and not at the newest.
    while ((await api(other, `/v1/chats/${encodeURIComponent(chatId)}`)).unread_count > 0) await pause(20);
    await there.reload();
    await messages(there, `quoting ${run}`).locator('button.answered', { hasText: 'Message deleted' }).waitFor();
    assert.ok(!(await there.content()).includes(`regret ${run}`));
  });

  test('read receipts: who has seen a message, and who hasn’t', async () => {
    await say(here, `seen ${run}`);
    await messages(there, `seen ${run}`).waitFor();
    await messages(here, `seen ${run}`).and(here.locator('[data-status=read]')).waitFor();
    await choose(here, `seen ${run}`, 'Seen by');
    await dialog(here).getByRole('region', { name: 'Read' }).getByText(new RegExp(other, 'i')).waitFor();
    await dialog(here).getByRole('region', { name: 'Not yet' }).getByText(third).waitFor();
    await here.keyboard.press('Escape');
    await dialog(here).waitFor({ state: 'detached' });
  });

  test('a draft stays with its chat, over other chats and a reload, with what it answers', async () => {
    const elsewhere = inList(here, new RegExp(other, 'i')).filter({ hasNotText: name }).first();
    await choose(here, `seen ${run}`, 'Reply');
    await textbox(here).fill(`draft ${run}`);
    await elsewhere.click();
    await inList(here, name).getByText('Draft:').waitFor();
    assert.equal(await textbox(here).inputValue(), '');
    await here.reload();
    await inList(here, name).filter({ hasText: `draft ${run}` }).click();
    await here.getByTestId('reply').getByText(`seen ${run}`).waitFor();
    assert.equal(await textbox(here).inputValue(), `draft ${run}`);
    await here.keyboard.press('Escape');
    await here.getByTestId('reply').waitFor({ state: 'detached' });
    await textbox(here).fill('');
  });

  test('a line stands where the unread begins, and the list counts it, on all devices of a person', async () => {
    const beside = await newPage(browser);
    for (const page of [there, beside]) {
      await page.goto(`${base}/?as=${other}#/`);
      await inList(page, name).waitFor();
      await connection(page, 'connected').waitFor({ state: 'attached' });
    }
    for (const text of [`unread 1 ${run}`, `unread 2 ${run}`]) await say(here, text);
    for (const page of [there, beside]) await inList(page, name).getByText('2 unread').waitFor({ state: 'attached' });
    await picture(there, 'unread-1280');
    await inList(there, name).click();
    await messages(there, `unread 2 ${run}`).waitFor();
    const below = await there.locator('h3.unread').evaluate((line) => line.nextElementSibling.querySelector('p.body').textContent);
    assert.equal(below, `unread 1 ${run}`);
    // Read on one, read on the other.
    for (const page of [there, beside]) await inList(page, name).getByText('2 unread').waitFor({ state: 'detached' });
    assert.deepEqual(beside.problems, []);
    await beside.context().close();
    await say(there, `answered ${run}`);
    await there.locator('h3.unread').waitFor({ state: 'detached' });
  });

  test('a chat opens where the unread begins, and counts as read only when its end was seen', async () => {
    await there.goto(`${base}/?as=${other}#/`);
    await inList(there, name).waitFor();
    const path = `/v1/chats/${encodeURIComponent(chatId)}/messages`;
    for (let line = 1; line <= 40; line++) await api(one, path, { content: `much ${line} ${run}` });
    await inList(there, name).getByText('40 unread').waitFor({ state: 'attached' });
    await inList(there, name).click();
    await there.locator('h3.unread').waitFor();
    await there.getByRole('button', { name: 'Go to the newest' }).waitFor();
    const [line, room] = [await there.locator('h3.unread').boundingBox(), await there.getByTestId('messages').boundingBox()];
    assert.ok(Math.abs(line.y - room.y) < 60, 'the line is at the top');
    await inList(there, name).getByText('40 unread').waitFor({ state: 'attached' });
    await there.getByRole('button', { name: 'Go to the newest' }).click();
    await inList(there, name).getByText('40 unread').waitFor({ state: 'detached' });
  });

  test('a text is a text: no markup, links that are safe, and each in its own direction', async () => {
    const hostile = `<img src=x onerror="document.title='x'"> javascript:alert(1) https://a.example/${run} ‮ https://b.example@evil.example ${run}`;
    await api(one, `/v1/chats/${encodeURIComponent(chatId)}/messages`, { content: hostile });
    const shown = there.getByTestId('message').filter({ hasText: 'javascript:alert(1)' }).last();
    await shown.waitFor();
    assert.equal(await shown.locator('img').count(), 0);
    const links = await shown.locator('a').evaluateAll((all) => all.map(({ href, rel, target, textContent }) => ({ href, rel, target, textContent })));
    assert.deepEqual(links.map(({ href }) => href), [`https://a.example/${run}`]);
    assert.ok(links.every(({ href, rel, target, textContent }) => textContent === href && target === '_blank' && rel.split(' ').includes('noopener')));
    await say(here, `שלום ${run}`);
    const start = await messages(there, `שלום ${run}`).locator('p.body').evaluate((body) => getComputedStyle(body).direction);
    assert.equal(start, 'rtl');
    const direction = await messages(there, `much 40 ${run}`).locator('p.body').evaluate((body) => getComputedStyle(body).direction);
    assert.equal(direction, 'ltr');
  });

  test('whoever leaves can read on, and write no more', async () => {
    const page = await newPage(browser);
    await enter(page, third, chatId);
    await about(page);
    await page.getByRole('button', { name: 'Leave the group' }).click();
    await page.getByRole('button', { name: 'Leave', exact: true }).click();
    await page.getByText('You are no longer in this chat.').waitFor();
    assert.equal(await textbox(page).count(), 0);
    await messages(page, `much 40 ${run}`).waitFor();
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });

  for (const [width, height, colorScheme] of [[360, 740, 'light'], [1280, 800, 'dark']]) {
    test(`${width} pixels, ${colorScheme}: nothing for axe to find`, async () => {
      // Without motion: a button that fades in has no contrast yet.
      const page = await newPage(browser, { viewport: { width, height }, colorScheme, reducedMotion: 'reduce' });
      const look = async (what, part = 'dialog') => {
        assert.deepEqual(await violations(page, part), [], what);
        await picture(page, `${what}-${width}-${colorScheme}`);
      };
      await enter(page, one, chatId);
      await messages(page, `שלום ${run}`).waitFor();
      await choose(page, `much 40 ${run}`, 'Reply');
      await look('reply', 'html');
      await about(page);
      await member(page, other).waitFor();
      await look('members');
      await dialog(page).getByRole('button', { name: 'Add people' }).click();
      await page.getByRole('textbox', { name: 'Find people' }).waitFor();
      await look('picker');
      await page.keyboard.press('Escape');
      await choose(page, `שלום ${run}`, 'Seen by');
      await page.getByRole('region', { name: 'Read' }).waitFor();
      await look('seen');
      assert.deepEqual(page.problems, []);
      await page.context().close();
    });
  }
});
