/**
 * The package in Node when the gateway is killed that its connection is on: nothing is lost, repeated or out of order.
 *
 * WALTALKIE_URL        the gateway that dies after the line `kill the gateway of alice`, in development mode
 * WALTALKIE_OTHER_URL  the one that lives on
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { connect as connectTo, createServer } from 'node:net';
import { connect, developmentToken } from '@waltalkie/client';

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

const alice = connect({ url: `http://127.0.0.1:${balancer.address().port}`, getToken: () => developmentToken(living, 'alice') });
const bob = connect({ url: living, getToken: () => developmentToken(living, 'bob') });
const heard = [];
let connections = 0;
alice.on('state', ({ state }) => { connections += state === 'connected' ? 1 : 0; });
await Promise.all([alice.ready, bob.ready]);
const chatId = await bob.api.makeChat(['alice'], 'Survival', randomUUID());
const theEnd = new Promise((resolve) => {
  bob.on('message', ({ chat_id, content }) => {
    if (chat_id !== chatId) return;
    heard.push(content);
    if (content === 'the end') resolve();
  });
});
while (!alice.chat(chatId)) await new Promise((next) => setTimeout(next, 20));

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
console.log('survived');
for (const client of [alice, bob]) client.close();
balancer.close();
