/** A browser with one page a person, and what the tests ask of them. */
import axe from 'axe-core';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { chromium } from 'playwright-core';

const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

/** Where the server is. */
export const base = (process.env.WALTALKIE_URL ?? '').replace(/\/$/, '');

/** Starts the browser that `CHROMIUM` names. */
export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
}

/**
 * A page of its own context: own storage, own network switch. Its sockets are remembered, so that a test
 * can cut them: a browser that is told to be offline may leave open ones alone.
 */
export async function newPage(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme: 'light', ...options });
  await context.addInitScript(() => {
    window.openedSockets = [];
    window.WebSocket = class extends WebSocket {
      constructor(...args) {
        super(...args);
        window.openedSockets.push(this);
      }
    };
  });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.problems = [];
  page.on('pageerror', (error) => page.problems.push(error.message));
  return page;
}

/** Opens a chat as a person, and waits until it is connected. */
export async function enter(page, person, chatId) {
  await page.goto(`${base}/?as=${person}#/chats/${encodeURIComponent(chatId)}`);
  await page.getByRole('textbox', { name: /^Message to/ }).waitFor();
  await connection(page, 'connected').waitFor({ state: 'attached' });
}

/** The sign of the connection's state. */
export function connection(page, state) {
  return page.locator(`[data-testid=connection][data-state=${state}]`);
}

/** Messages with exactly this text. */
export function messages(page, text) {
  return page.getByTestId('message').filter({ has: page.locator('p.body', { hasText: new RegExp(`^${text}$`) }) });
}

/** Chats of the list that are called so. */
export function inList(page, title) {
  return page.locator('.sidebar li a', { hasText: title });
}

/** Watches the messages on a page from here on; gives those that were on it and then weren't, however briefly. */
export async function vanishing(page) {
  await page.evaluate(() => {
    window.vanished = [];
    const texts = () => [...document.querySelectorAll('[data-testid=message] p.body')].map(({ textContent }) => textContent);
    let before = texts();
    new MutationObserver(() => {
      const now = texts();
      window.vanished.push(...before.filter((text) => !now.includes(text)));
      before = now;
    }).observe(document.body, { childList: true, subtree: true, characterData: true });
  });
  return () => page.evaluate(() => window.vanished);
}

/** Texts of the messages on the page, from top to bottom. */
export async function texts(page) {
  const bodies = await page.locator('[data-testid=message] p.body').evaluateAll((found) =>
    found.map((body) => ({ text: body.textContent, top: body.getBoundingClientRect().top })),
  );
  return bodies.toSorted((one, other) => one.top - other.top).map(({ text }) => text);
}

/** Writes and sends. */
export async function say(page, text) {
  await page.getByRole('textbox', { name: /^Message to/ }).fill(text);
  await page.keyboard.press('Enter');
}

/** Chooses from a message's menu. */
export async function choose(page, text, item) {
  const message = messages(page, text);
  await message.hover();
  await message.getByRole('button', { name: 'Message actions' }).click();
  await page.getByRole('menuitem', { name: item }).click();
}

/** Cuts the network: new requests fail, open sockets end. */
export async function cut(page) {
  await page.context().setOffline(true);
  await page.evaluate(() => window.openedSockets.forEach((socket) => socket.close()));
}

/** What axe-core finds on the page or a part of it, as lines to read. Not a script of the page, so the page's policy stays as it is. */
export async function violations(page, part = 'html') {
  await page.evaluate(axe.source);
  const result = await page.evaluate((selector) => window.axe.run(selector, { resultTypes: ['violations'] }), part);
  return result.violations.flatMap(({ id, help, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${help}\n  ${html}\n  ${failureSummary}`));
}

/** Keeps a picture, if `SCREENSHOTS` names a folder. */
export async function picture(page, name) {
  const folder = process.env.SCREENSHOTS;
  if (!folder) return;
  await mkdir(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`), animations: 'disabled' });
}

const tokens = new Map();

async function tokenOf(person) {
  const signed = await fetch(`${base}/v1/dev/token`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ user_id: person }),
  });
  if (!signed.ok) throw new Error(`no token for ${person}: ${signed.status} ${await signed.text()}`);
  return (await signed.json()).token;
}

/** One call of the HTTP API as a person, who is there from the first one on: a POST, or another method, if there is a body. */
export async function api(person, path, body, method = 'POST') {
  if (!tokens.has(person)) tokens.set(person, await tokenOf(person));
  const answer = await fetch(`${base}${path}`, {
    headers: { authorization: `Bearer ${tokens.get(person)}`, ...(body ? { 'content-type': 'application/json' } : {}) },
    ...(body ? { method, body: JSON.stringify(body) } : {}),
  });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

/** Looks until what is seen fits. */
export async function seen(look, fits) {
  for (let tries = 0; ; tries++) {
    const found = await look();
    if (fits(found)) return;
    if (tries === 400) throw new Error(`still seen: ${JSON.stringify(found)}`);
    await pause(50);
  }
}

/** Waits until the server keeps settings of a person that fit. */
export function kept(person, fits) {
  return seen(() => api(person, '/v1/users/me/settings'), fits);
}

/** A chat that both are in, 1:1 if there is one. */
export async function sharedChat(one, other) {
  const { chats } = await api(one, '/v1/chats?limit=100');
  const ids = new Set((await api(other, '/v1/chats?limit=100')).chats.map(({ chat_id }) => chat_id));
  const shared = chats.filter(({ chat_id }) => ids.has(chat_id));
  const chat = shared.find(({ peer }) => peer?.user_id === other) ?? shared[0];
  if (chat === undefined) throw new Error(`${one} and ${other} share no chat`);
  return chat.chat_id;
}
