import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MessageEvent, ServerFrame } from '../src/frames.ts';
import { Session, type Effect } from '../src/session.ts';

const CHAT = 'c1';
const hello = (epoch = 'e1'): ServerFrame => ({
  event: 'hello',
  payload: { session_id: 's', user_id: 'alice', heartbeat_ms: 5000, epoch, development: true, limits: { content_bytes: 1_000, frame_bytes: 2_000 } },
});
const chats = (head: number, read = 0): ServerFrame => ({
  event: 'chats',
  payload: { complete: true, chats: [{ chat_id: CHAT, head_seq: head, delivered_seq: 0, read_seq: read, visible: [[1, null]] }] },
});
const message = (seq: number, change: Partial<MessageEvent> = {}): MessageEvent => ({
  chat_id: CHAT, seq, message_id: `m${change.message_seq ?? seq}`, message_seq: seq, sender_id: 'bob', content: `text ${seq}`,
  parent_message_id: null, parent_seq: null, app_data: null, created_at: '2026-01-01T00:00:00.000Z',
  edited_at: null, deleted_at: null, ...change,
});
const deleted = (seq: number, of: number): ServerFrame => ({
  event: 'message_deleted',
  payload: message(seq, { message_seq: of, content: null, deleted_at: '2026-01-01T00:00:01.000Z' }),
});
const live = (payload: MessageEvent): ServerFrame => ({ event: 'message', payload });
const frames = (effects: Effect[], event: string) =>
  effects.flatMap((effect) => (effect.do === 'send' && effect.frame.event === event ? [effect.frame.payload] : []));
const { seq: _seq, ...older } = message(3);

function started(head = 5): Session {
  const session = new Session();
  session.receive(hello(), 0, 0);
  session.receive(chats(head), 0, 0);
  return session;
}

test('a new device starts at the head and reads history by pages', () => {
  const session = started();
  session.history(CHAT, { messages: [older], as_of_seq: 5, has_more_before: true }, 0);
  session.receive(live(message(6)), 1, 0);
  const { log } = session.chats.get(CHAT)!;
  assert.deepEqual(log.messages.map(({ message_seq }) => message_seq), [3, 6]);
  assert.equal(log.floor, 3);
});

test('a page older than where live events began is completed by a resume', () => {
  const session = started(5);
  session.history(CHAT, { messages: [older], as_of_seq: 3, has_more_before: false }, 0);
  assert.deepEqual(frames(session.tick(1_000), 'resume'), [{ cursors: { [CHAT]: 3 }, epoch: 'e1' }]);
});

test('each event is told once: those that a rewind brings again, or brings from before the start, are history', () => {
  const session = started(5);
  const told = (payload: MessageEvent) => session.receive(live(payload), 1, 0).filter((effect) => effect.do === 'event').length;
  assert.equal(told(message(6)), 1);
  session.history(CHAT, { messages: [older], as_of_seq: 3, has_more_before: false }, 0);
  assert.deepEqual([4, 5, 6, 7].map((seq) => told(message(seq))), [0, 0, 0, 1]);
  assert.deepEqual(session.chats.get(CHAT)!.log.messages.map(({ message_seq }) => message_seq), [3, 4, 5, 6, 7]);
});

test('after a reconnect the missed events are asked for with the cursor', () => {
  const session = started(5);
  session.disconnected();
  session.receive(hello(), 10, 0);
  assert.deepEqual(frames(session.receive(chats(8), 10, 0), 'resume'), [{ cursors: { [CHAT]: 5 }, epoch: 'e1' }]);
});

test('an answer that brought all ends the asking', () => {
  const session = started(5);
  const resumed = (from_seq: number, to_seq: number, complete: boolean): ServerFrame =>
    ({ event: 'resumed', payload: { chat_id: CHAT, from_seq, to_seq, complete } });
  session.receive(resumed(3, 5, false), 0, 0);
  assert.deepEqual(frames(session.tick(0), 'resume'), [{ cursors: { [CHAT]: 5 }, epoch: 'e1' }]);
  session.receive(resumed(5, 5, true), 10, 0);
  for (const now of [2_000, 6_000, 60_000]) assert.deepEqual(frames(session.tick(now), 'resume'), []);
  // A head that isn't met later asks after its second: the row of tries begins anew.
  session.receive({ event: 'heads', payload: { [CHAT]: 6 } }, 60_000, 0);
  assert.deepEqual(frames(session.tick(60_900), 'resume'), []);
  assert.equal(frames(session.tick(61_000), 'resume').length, 1);
});

test('too much missed: history is read anew, nothing replayed', () => {
  const session = started(5);
  session.history(CHAT, { messages: [older], as_of_seq: 5, has_more_before: true }, 0);
  session.disconnected();
  session.receive(hello(), 10, 0);
  const effects = session.receive(chats(5_000), 10, 0);
  assert.deepEqual(frames(effects, 'resume'), []);
  assert.ok(effects.some((effect) => effect.do === 'restarted' && effect.wasLoaded));
  assert.equal(session.chats.get(CHAT)!.cursor.cursor, 5_000);
});

test('who wants every event replays, however many there are', () => {
  const session = new Session({ replayLimit: Infinity });
  session.receive(hello(), 0, 0);
  session.receive(chats(5), 0, 0);
  session.disconnected();
  session.receive(hello(), 10, 0);
  assert.deepEqual(frames(session.receive(chats(5_000), 10, 0), 'resume'), [{ cursors: { [CHAT]: 5 }, epoch: 'e1' }]);
});

test('another epoch forgets everything', () => {
  const session = started(5);
  session.disconnected();
  session.receive(hello('e2'), 10, 0);
  assert.equal(session.chats.size, 0);
});

test('a tombstone stays, also against a late page and for a message loaded later', () => {
  const session = started(5);
  session.receive(deleted(6, 3), 1, 0);
  session.history(CHAT, { messages: [older], as_of_seq: 5, has_more_before: false }, 2);
  const shown = session.chats.get(CHAT)!.log.get('m3')!;
  assert.equal(shown.content, null);
  assert.ok(shown.deleted_at);
});

test('unread: others count, own and read ones do not, deleted ones are taken off', () => {
  const session = started(5);
  const chat = session.chats.get(CHAT)!;
  session.receive(live(message(6)), 1, 0);
  session.receive(live(message(7, { sender_id: 'alice' })), 1, 0);
  session.receive(live(message(8)), 1, 0);
  assert.equal(chat.unread, 2);
  session.receive(deleted(9, 8), 1, 0);
  assert.equal(chat.unread, 1);
  session.receive({ event: 'receipt', payload: { chat_id: CHAT, users: { alice: { delivered_seq: 9, read_seq: 6 } } } }, 1, 0);
  assert.equal(chat.unread, 0);
  session.receive(live(message(10)), 1, 0);
  assert.deepEqual(frames([...session.read(CHAT), ...session.tick(5_000)], 'mark_read'), [{ marks: { [CHAT]: 10 } }]);
  assert.equal(chat.unread, 0);
});

test('an ack never moves the cursor', () => {
  const session = started(5);
  session.outbox.add({ op_id: 'x', order: 1, kind: 'send', chat_id: CHAT, message_id: 'x', content: 'hi', created_ms: 0, failure: null });
  assert.equal(frames(session.tick(0), 'send_message').length, 1);
  session.receive({ event: 'ack', id: 'x', payload: { state: 'persisted', seq: 6 } }, 1, 0);
  assert.equal(session.chats.get(CHAT)!.cursor.cursor, 5);
});

test('a frame over the limit never leaves: it would end each connection', () => {
  const session = started(5);
  const send = (id: string, content: string) =>
    session.outbox.add({ op_id: id, order: content.length, kind: 'send', chat_id: CHAT, message_id: id, content, created_ms: 0, failure: null });
  send('short', 'hi');
  send('long', 'ü'.repeat(1_000));
  assert.deepEqual(frames(session.tick(0), 'send_message').map(({ message_id }) => message_id), ['short']);
  assert.equal(session.outbox.entries.find(({ op_id }) => op_id === 'long')?.failure?.code, 'frame_too_big');
});

test('a chat that is no longer announced is gone; one that is new is fetched', () => {
  const session = started(5);
  const effects = session.receive({
    event: 'chats',
    payload: { complete: true, chats: [{ chat_id: 'new', head_seq: 1, delivered_seq: 0, read_seq: 0, visible: [[1, null]] }] },
  }, 1, 0);
  assert.ok(effects.some((effect) => effect.do === 'fetch_chats'));
  assert.ok(session.chats.has(CHAT), 'while connected an announcement only adds');
  session.disconnected();
  session.receive(hello(), 2, 0);
  session.receive(chats(5), 2, 0);
  assert.deepEqual([...session.chats.keys()], [CHAT]);
});

test('whatever is lost, doubled or overtaken: in the end the client shows what the server has', () => {
  for (let seed = 1; seed <= 200; seed++) {
    let state = seed * 2654435761;
    const random = () => ((state = (state * 1664525 + 1013904223) >>> 0) / 2 ** 32);
    const events: MessageEvent[] = [];
    const truth = new Map<number, string | null>();
    for (let seq = 1; seq <= 40; seq++) {
      const of = 1 + Math.floor(random() * (seq - 1));
      if (random() < 0.25 && truth.get(of) != null) {
        events.push(message(seq, { message_seq: of, content: null, deleted_at: '2026-01-01T00:00:01.000Z' }));
        truth.set(of, null);
      } else if (random() < 0.25 && truth.get(of) != null) {
        events.push(message(seq, { message_seq: of, content: `edit ${seq}` }));
        truth.set(of, `edit ${seq}`);
      } else {
        events.push(message(seq));
        truth.set(seq, `text ${seq}`);
      }
    }
    const session = started(0);
    let now = 0;
    const deliver = (from: number) => {
      const some = events.slice(from).filter(() => random() > 0.3).flatMap((event) => (random() < 0.2 ? [event, event] : [event]));
      for (let i = some.length - 1; i > 0; i--) if (random() < 0.3) [some[i], some[i - 1]] = [some[i - 1]!, some[i]!];
      for (const event of some) session.receive(live(event), now, 0);
    };
    deliver(0);
    for (let round = 0; round < 100 && session.chats.get(CHAT)!.cursor.cursor < 40; round++) {
      now += 5_000;
      session.receive({ event: 'heads', payload: { [CHAT]: 40 } }, now, 0);
      for (const { cursors } of frames(session.tick(now), 'resume') as { cursors: Record<string, number> }[]) deliver(cursors[CHAT]!);
    }
    const shown = session.chats.get(CHAT)!.log.messages.map(({ message_seq, content }) => [message_seq, content]);
    assert.deepEqual(shown, [...truth.entries()], `seed ${seed}`);
  }
});
