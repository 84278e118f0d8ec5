/**
 * The package in Node, and the page in a browser, when the gateway is killed that their connections are on: nothing is lost,
 * repeated or out of order, and nothing that was on the page flickers.
 *
 * WALTALKIE_URL        the gateway that dies after the line `kill the gateway of alice`, in development mode
 * WALTALKIE_OTHER_URL  the one that lives on
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { connect as connectTo, createServer } from 'node:net';
import { connect, developmentToken } from '@waltalkie/client';
import { connection, launch, messages, newPage, texts, vanishing } from './browser.mjs';

/** More than it takes to come back. */
const AFTER = 20;
const { WALTALKIE_URL: dying, WALTALKIE_OTHER_URL: living } = process.env;

/** One address for both, as a load balancer is: the first that can be reached. */
const balancer = createServer((near) => {
  const to = ([url, ...others]) => {
    const { hostname, port } = new URL(url);
    const far = connectTo(Number(port), hostname);
    let isReached = false;
    far.on('connect', () => {
      isReached = true;
      near.pipe(far).pipe(near);
    });
    far.on('error', () => undefined);
    far.on('close', () => (isReached || others.length === 0 ? near.destroy() : to(others)));
    near.on('close', () => far.destroy());
  };
  near.on('error', () => undefined);
  to([dying, living]);
});
await once(balancer.listen(0, '127.0.0.1'), 'listening');

const address = `http://127.0.0.1:${balancer.address().port}`;
const alice = connect({ url: address, getToken: () => developmentToken(living, 'alice') });
const bob = connect({ url: living, getToken: () => developmentToken(living, 'bob') });
const heard = [];
let connections = 0;
alice.on('state', ({ state }) => { connections += state === 'connected' ? 1 : 0; });
await Promise.all([alice.ready, bob.ready]);
const chatId = await bob.api.makeChat(['alice', 'carol'], 'Survival', randomUUID());
const theEnd = new Promise((resolve) => {
  bob.on('message', ({ chat_id, content }) => {
    if (chat_id !== chatId) return;
    heard.push(content);
    if (content === 'the end') resolve();
  });
});
while (!alice.chat(chatId)) await new Promise((next) => setTimeout(next, 20));

const browser = await launch();
const page = await newPage(browser);
await page.goto(`${address}/?as=carol#/chats/${encodeURIComponent(chatId)}`);
await connection(page, 'connected').waitFor({ state: 'attached' });
const vanished = await vanishing(page);

const said = [];
for (let after = 0; after < AFTER;) {
  said.push(`message ${said.length}`);
  await alice.send(chatId, said.at(-1));
  after += connections > 1 ? 1 : 0;
  if (said.length === AFTER) console.log('kill the gateway of alice');
}
said.push('the end');
await alice.send(chatId, 'the end');
await theEnd;
assert.deepEqual(heard, said);
const history = await bob.history(chatId);
assert.deepEqual(history.map(({ content }) => content), said.slice(-history.length));

await messages(page, 'the end').waitFor();
assert.deepEqual(await texts(page), said);
assert.deepEqual(await vanished(), []);
assert.ok(await page.evaluate(() => window.openedSockets.length) > 1, 'the page came over to the other node');
assert.deepEqual(page.problems, []);
await browser.close();
console.log('survived');
for (const client of [alice, bob]) client.close();
balancer.close();
