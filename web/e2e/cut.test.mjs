/**
 * The package in Node: a connection that breaks loses nothing, repeats nothing, and keeps the order.
 *
 * WALTALKIE_URL  where Waltalkie is, in development mode
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { connect as connectTo, createServer } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { connect, developmentToken, WaltalkieError } from '@waltalkie/client';
import { base } from './browser.mjs';

if (base === '') throw new Error('WALTALKIE_URL is not set: scripts/test starts a server and sets it');

/** A way to the server that can be cut, and that can swallow what the server says. */
async function breakableWay() {
  const { hostname, port } = new URL(base);
  const open = new Set();
  let refuses = false;
  let swallows = false;
  const server = createServer((near) => {
    if (refuses) return near.destroy();
    const far = connectTo(Number(port), hostname);
    for (const [from, to] of [[near, far], [far, near]]) {
      open.add(from);
      from.on('data', (bytes) => { if (!(swallows && from === far)) to.write(bytes); });
      from.on('error', () => undefined);
      from.on('close', () => { open.delete(from); to.destroy(); });
    }
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    swallow() { swallows = true; },
    cut() { refuses = true; for (const socket of open) socket.destroy(); },
    mend() { refuses = swallows = false; },
    close() { this.cut(); server.close(); },
  };
}

describe('a connection that breaks', { timeout: 60_000 }, () => {
  const run = randomUUID().slice(0, 8);
  let way, alice, bob, chatId;
  const heard = [];

  const state = (client, wanted) => new Promise((resolve) => {
    const off = client.on('state', (connection) => { if (connection.state === wanted) resolve(off()); });
  });
  async function until(isSo) {
    while (!isSo()) await new Promise((next) => setTimeout(next, 20));
  }

  before(async () => {
    way = await breakableWay();
    alice = connect({ url: way.url, getToken: () => developmentToken(base, 'alice') });
    bob = connect({ url: base, getToken: () => developmentToken(base, 'bob') });
    alice.on('message', ({ chat_id, content }) => { if (chat_id === chatId) heard.push(content); });
    await Promise.all([alice.ready, bob.ready]);
    chatId = await bob.api.makeChat(['alice'], `Cut ${run}`, randomUUID());
    await until(() => alice.chat(chatId));
  });
  after(() => {
    alice?.close();
    bob?.close();
    way?.close();
  });

  test('what was said meanwhile arrives afterwards, once and in order', async () => {
    await bob.send(chatId, 'before');
    await until(() => heard.length === 1);
    const lost = state(alice, 'reconnecting');
    way.cut();
    await lost;
    const texts = Array.from({ length: 30 }, (_, place) => `meanwhile ${place}`);
    const sent = await Promise.all(texts.map((text) => bob.send(chatId, text)));
    assert.deepEqual(sent.map(({ seq }) => seq - sent[0].seq), texts.map((_, place) => place));
    const back = state(alice, 'connected');
    way.mend();
    await back;
    await bob.send(chatId, 'after');
    await until(() => heard.includes('after'));
    assert.deepEqual(heard, ['before', ...texts, 'after']);
  });

  test('a send whose answer was lost is persisted once, and its sender gets the first one’s seq', async () => {
    way.swallow();
    const arrived = new Promise((resolve) => {
      const off = bob.on('message', (message) => { if (message.content === `unanswered ${run}`) resolve([message, off()]); });
    });
    const sent = alice.send(chatId, `unanswered ${run}`);
    const [message] = await arrived;
    way.cut();
    const late = alice.send(chatId, `while cut ${run}`);
    way.mend();
    assert.deepEqual(await sent, { message_id: message.message_id, seq: message.seq });
    assert.equal((await late).seq, message.seq + 1);
    const history = await bob.history(chatId);
    assert.deepEqual(history.slice(-2).map(({ content }) => content), [`unanswered ${run}`, `while cut ${run}`]);
    assert.equal(history.filter(({ content }) => content === `unanswered ${run}`).length, 1);
    await until(() => heard.includes(`while cut ${run}`));
    assert.deepEqual(heard.slice(-2), [`unanswered ${run}`, `while cut ${run}`]);
  });

  test('a refusal rejects, and what is sent later passes', async () => {
    const refused = alice.send(chatId, 'x'.repeat(20_000));
    const later = alice.send(chatId, 'short enough');
    await assert.rejects(refused, (error) => error instanceof WaltalkieError && error.code === 'content_too_long');
    const { message_id, seq } = await later;
    await alice.edit(chatId, message_id, 'edited');
    await alice.remove(chatId, message_id);
    await until(() => bob.chat(chatId).cursor.cursor >= seq + 2);
    assert.equal(bob.chat(chatId).log.get(message_id).content, null);
    await until(() => alice.unsent(chatId).length === 0);
  });
});
