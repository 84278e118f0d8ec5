/** The client over sockets and answers that the test makes up. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { connect, type Client } from '../src/client.ts';
import { WaltalkieError } from '../src/http.ts';
import type { Connection } from '../src/socket.ts';

class FakeSocket {
  static readonly OPEN = 1;
  static opened: FakeSocket[] = [];
  readyState = 1;
  sent: { event: string; id?: string; payload: Record<string, unknown> }[] = [];
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;
  readonly address: string;
  readonly token: string | undefined;

  constructor(address: string, protocols: string[]) {
    this.address = address;
    this.token = protocols[1]?.replace('bearer.', '');
    FakeSocket.opened.push(this);
  }

  static get last(): FakeSocket {
    return this.opened.at(-1)!;
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }

  close(): void {
    this.readyState = 3;
  }

  says(event: string, payload: unknown, id?: string): void {
    this.onmessage?.({ data: JSON.stringify({ event, payload, id }) });
  }

  greets(): void {
    const limits = { content_bytes: 16_384, frame_bytes: 65_536 };
    this.says('hello', { session_id: 's', user_id: 'alice', heartbeat_ms: 5_000, epoch: 'e1', development: true, limits });
    this.says('chats', { chats: [{ chat_id: 'c1', head_seq: 5, delivered_seq: 5, read_seq: 5, visible: [[1, null]] }], complete: true });
  }

  ends(code: number): void {
    this.onclose?.({ code });
  }
}

let client: Client;
let states: Connection[];
let tokens: (string | Error)[];

beforeEach(() => {
  mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] });
  Object.assign(globalThis, { WebSocket: FakeSocket, fetch: async () => Response.json({ chats: [] }) });
  FakeSocket.opened = [];
  states = [];
  tokens = ['t1', 't2', 't3'];
  client = connect({
    url: 'https://chat.example.com/talk',
    getToken: async () => {
      const token = tokens.shift()!;
      if (token instanceof Error) throw token;
      return token;
    },
  });
  client.on('state', (connection) => states.push(connection));
});
afterEach(() => {
  client.close();
  mock.timers.reset();
});

/** Lets promises go on: none of them waits for anything real. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await Promise.resolve();
}

async function pass(ms: number): Promise<void> {
  mock.timers.tick(ms);
  await settle();
}

test('it connects to the server’s address, as the person of the token', async () => {
  await settle();
  assert.equal(FakeSocket.last.address, 'wss://chat.example.com/talk/v1/ws');
  assert.equal(FakeSocket.last.token, 't1');
  FakeSocket.last.greets();
  await client.ready;
  assert.equal(client.me, 'alice');
  assert.equal(states.at(-1)?.state, 'connected');
});

test('a send resolves with its seq when it is persisted, over a connection that was lost', async () => {
  await settle();
  FakeSocket.last.greets();
  const sent = client.send('c1', 'hello', { parentMessageId: 'p' });
  const [first] = FakeSocket.last.sent.filter(({ event }) => event === 'send_message');
  FakeSocket.last.ends(1006);
  await pass(400);
  FakeSocket.last.greets();
  const [again] = FakeSocket.last.sent.filter(({ event }) => event === 'send_message');
  assert.deepEqual(again, first);
  assert.equal(again?.payload.parent_message_id, 'p');
  FakeSocket.last.says('ack', { state: 'persisted', seq: 6 }, again?.id);
  assert.deepEqual(await sent, { message_id: again?.id, seq: 6 });
});

test('a refusal rejects, and nothing of it stays', async () => {
  await settle();
  FakeSocket.last.greets();
  const sent = client.send('c1', 'hello');
  FakeSocket.last.says('error', { code: 'content_too_long', message: 'too long', temporary: false }, FakeSocket.last.sent.at(-1)?.id);
  await assert.rejects(sent, { name: 'WaltalkieError', code: 'content_too_long', message: 'too long' });
  assert.deepEqual(client.unsent('c1'), []);
});

test('a token is kept until it won’t do: 4101 gets a fresh one at once, other ends wait and keep it', async () => {
  await settle();
  FakeSocket.last.greets();
  FakeSocket.last.ends(4101);
  await settle();
  assert.equal(FakeSocket.last.token, 't2');
  FakeSocket.last.greets();
  FakeSocket.last.ends(1006);
  await pass(199);
  assert.equal(FakeSocket.opened.length, 2, 'at least half of the first wait');
  await pass(201);
  assert.equal(FakeSocket.last.token, 't2');
  FakeSocket.last.ends(1006);
  await pass(800);
  assert.equal(FakeSocket.last.token, 't3', 'a refused handshake shows no code: it may have been the token');
});

test('a token that is about to end is replaced on the same connection', async () => {
  await settle();
  FakeSocket.last.greets();
  FakeSocket.last.says('token_expiring', { expires_at: '2026-01-01T00:00:00.000Z' });
  await settle();
  assert.deepEqual(FakeSocket.last.sent.at(-1), { event: 'authenticate', payload: { token: 't2' } });
});

test('no token is told with its cause, and asked for again', async () => {
  await settle();
  FakeSocket.last.greets();
  tokens = [new Error('logged out'), 't9'];
  FakeSocket.last.ends(4101);
  await settle();
  const last = states.at(-1);
  assert.equal(last?.state === 'reconnecting' && (last.error as Error).message, 'logged out');
  await pass(800);
  assert.equal(FakeSocket.last.token, 't9');
});

test('a person who was removed stays away, and what waits is rejected', async () => {
  await settle();
  FakeSocket.last.greets();
  const sent = client.send('c1', 'hello');
  FakeSocket.last.ends(4102);
  await assert.rejects(sent, (error) => error instanceof WaltalkieError && error.code === 'stopped');
  assert.deepEqual(states.at(-1), { state: 'stopped', code: 4102 });
  await pass(60_000);
  assert.equal(FakeSocket.opened.length, 1);
  await assert.rejects(client.send('c1', 'hello'), { code: 'stopped' });
});

test('a node that stops says when to come back', async () => {
  await settle();
  FakeSocket.last.greets();
  FakeSocket.last.says('reconnect', { after_ms: 3_000 });
  await pass(2_999);
  assert.equal(FakeSocket.opened.length, 1);
  await pass(1);
  assert.equal(FakeSocket.opened.length, 2);
});

test('silence after a heartbeat ends the connection', async () => {
  await settle();
  FakeSocket.last.greets();
  for (let second = 0; second < 17; second++) await pass(1_000);
  assert.ok(FakeSocket.opened[0]?.sent.some(({ event }) => event === 'heartbeat'));
  assert.equal(FakeSocket.opened.length, 2);
});

test('that nobody is at the device is told at once, with each heartbeat, and on each connection', async () => {
  const beats = () => FakeSocket.last.sent.filter(({ event }) => event === 'heartbeat').map(({ payload }) => payload);
  await settle();
  FakeSocket.last.greets();
  client.active = true;
  assert.deepEqual(beats(), [], 'as the server thinks anyway');
  client.active = false;
  client.active = false;
  assert.deepEqual(beats(), [{ active: false }]);
  await pass(5_250);
  assert.deepEqual(beats(), [{ active: false }, { active: false }]);
  FakeSocket.last.ends(1006);
  await pass(400);
  FakeSocket.last.greets();
  assert.deepEqual(beats(), [{ active: false }]);
  client.active = true;
  assert.deepEqual(beats(), [{ active: false }, {}]);
});

test('events are told by the server’s names, until one listens no more', async () => {
  await settle();
  FakeSocket.last.greets();
  const heard: string[] = [];
  const off = client.on('message', ({ content }) => heard.push(`new: ${content}`));
  client.on('message_edited', ({ content }) => heard.push(`edited: ${content}`));
  const message = { chat_id: 'c1', message_id: 'm', message_seq: 6, sender_id: 'bob', deleted_at: null, created_at: '' };
  FakeSocket.last.says('message_edited', { ...message, seq: 7, content: 'b' });
  FakeSocket.last.says('message', { ...message, seq: 6, content: 'a' });
  off();
  FakeSocket.last.says('message', { ...message, seq: 8, message_id: 'n', message_seq: 8, content: 'c' });
  assert.deepEqual(heard, ['new: a', 'edited: b']);
});

test('close ends it: what waits is rejected, and nothing connects again', async () => {
  await settle();
  const sent = client.send('c1', 'hello');
  client.close();
  await assert.rejects(sent, { code: 'closed' });
  await assert.rejects(client.ready, { code: 'closed' });
  await pass(60_000);
  assert.equal(FakeSocket.opened.length, 1);
});
