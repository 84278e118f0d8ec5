import assert from 'node:assert/strict';
import { test } from 'node:test';
import { commandFrame } from '../src/commands.ts';
import { Outbox, type Command } from '../src/outbox.ts';

const send = (order: number, chat = 'c'): Command => ({
  op_id: `m${order}`, order, kind: 'send', chat_id: chat, message_id: `m${order}`,
  content: `text ${order}`, created_ms: order, failure: null,
});
const temporary = { code: 'unavailable', message: '', temporary: true };
const definite = { code: 'content_too_long', message: 'too long', temporary: false };
const blocked = { code: 'blocked_by_earlier', message: '', temporary: true };
const shown = (id: string, content = 'x') => ({ message_id: id, message_seq: 3, content, deleted_at: null });
const ids = (entries: readonly { op_id: string }[]) => entries.map(({ op_id }) => op_id);

test('a send goes out once, is accepted, persisted, and gone', () => {
  const outbox = new Outbox();
  outbox.add(send(1));
  assert.deepEqual(ids(outbox.pump(10)), ['m1']);
  assert.deepEqual(ids(outbox.pump(11)), []);
  outbox.acked('m1', 'accepted', undefined, 12);
  assert.equal(outbox.entries[0]?.phase, 'accepted');
  outbox.acked('m1', 'persisted', 7, 15);
  assert.equal(outbox.entries[0]?.phase, 'persisted', 'drawn until its event comes');
  assert.deepEqual(outbox.trail('m1'), { sent_ms: 10, accepted_ms: 12, persisted_ms: 15, seq: 7 });
  assert.deepEqual(ids(outbox.takeChanges().settled), ['m1'], 'forgotten by storage at once');
  outbox.seen(shown('m1'), 7);
  assert.deepEqual(outbox.entries, []);
});

test('a reply says what it answers, also when it goes again', () => {
  const outbox = new Outbox();
  outbox.add({ ...send(1), parent_message_id: 'p' });
  for (let time = 1; time <= 2; time++) {
    const [entry] = outbox.pump(time);
    assert.deepEqual(entry && commandFrame(entry).payload, { chat_id: 'c', message_id: 'm1', content: 'text 1', parent_message_id: 'p' });
    outbox.disconnected();
  }
});

test('an event before the acks ends the entry, and late acks still tell their times', () => {
  const outbox = new Outbox();
  outbox.add(send(1));
  outbox.pump(10);
  outbox.seen(shown('m1'), 3);
  assert.deepEqual(outbox.entries, []);
  assert.deepEqual(outbox.takeChanges().settled.map(({ seq }) => seq), [3], 'whoever waits for it gets its seq');
  outbox.acked('m1', 'persisted', 3, 20);
  assert.equal(outbox.trail('m1')?.persisted_ms, 20);
});

test('after a lost connection everything unconfirmed goes again, in order, under the same ids', () => {
  const outbox = new Outbox();
  for (const order of [1, 2, 3]) outbox.add(send(order));
  outbox.pump(0);
  outbox.acked('m1', 'accepted', undefined, 1);
  outbox.disconnected();
  assert.deepEqual(ids(outbox.pump(2)), ['m1', 'm2', 'm3']);
});

test('a temporary refusal keeps the order of its chat and leaves other chats alone', () => {
  const outbox = new Outbox();
  for (const order of [1, 2]) outbox.add(send(order));
  outbox.pump(0);
  outbox.refused('m1', { ...temporary, retry_after_ms: 5_000 }, 0, 0.5);
  outbox.add(send(3));
  outbox.add(send(4, 'other'));
  assert.deepEqual(ids(outbox.pump(10_000)), ['m4'], 'm2 has no answer yet: it could overtake');
  outbox.refused('m2', blocked, 10_001, 0.5);
  assert.deepEqual(ids(outbox.pump(10_002)), ['m1', 'm2', 'm3']);
});

test('blocked by nothing that is known here: not at once again, over and over', () => {
  const outbox = new Outbox();
  outbox.add(send(1));
  outbox.pump(0);
  outbox.refused('m1', blocked, 0, 0);
  assert.deepEqual(ids(outbox.pump(1)), ['m1']);
  outbox.refused('m1', blocked, 1, 0);
  assert.deepEqual(ids(outbox.pump(2)), []);
  assert.deepEqual(ids(outbox.pump(60_000)), ['m1']);
});

test('a wait asked for by the server is kept', () => {
  const outbox = new Outbox();
  outbox.add(send(1));
  outbox.pump(0);
  outbox.refused('m1', { ...temporary, retry_after_ms: 5_000 }, 0, 0);
  assert.deepEqual(ids(outbox.pump(4_999)), []);
  assert.deepEqual(ids(outbox.pump(5_000)), ['m1']);
});

test('a definite refusal is told to the server as given up; later ones follow; a retry goes last', () => {
  const outbox = new Outbox();
  for (const order of [1, 2]) outbox.add(send(order));
  outbox.pump(0);
  assert.equal(outbox.refused('m1', definite, 1, 0)?.message_id, 'm1');
  outbox.refused('m2', blocked, 1, 0);
  assert.deepEqual(ids(outbox.pump(2)), ['m2']);
  assert.equal(outbox.entries[0]?.phase, 'failed');
  assert.equal(outbox.takeChanges().changed.find(({ op_id }) => op_id === 'm1')?.failure?.code, 'content_too_long');
  outbox.add({ ...send(1), order: 9 });
  assert.deepEqual(ids(outbox.entries), ['m2', 'm1']);
  assert.deepEqual(ids(outbox.pump(3)), ['m1']);
});

test('no answer for long on a live connection: the same command goes again', () => {
  const outbox = new Outbox();
  outbox.add(send(1));
  outbox.pump(0);
  outbox.tick(10_000);
  assert.deepEqual(ids(outbox.pump(10_000)), []);
  outbox.tick(16_000);
  assert.deepEqual(ids(outbox.pump(16_000)), ['m1']);
});

test('a command that is here already is not added twice; failed ones stay failed over a reload', () => {
  const outbox = new Outbox();
  outbox.add(send(1));
  outbox.pump(0);
  outbox.add(send(1));
  assert.equal(outbox.entries.length, 1);
  outbox.add({ ...send(2), failure: { code: 'forbidden', message: '' } });
  assert.deepEqual(ids(outbox.pump(1)), []);
});

test('at most a window of one chat is on the way', () => {
  const outbox = new Outbox();
  for (let order = 1; order <= 40; order++) outbox.add(send(order));
  assert.equal(outbox.pump(0).length, 32);
  outbox.acked('m1', 'persisted', 1, 1);
  assert.deepEqual(ids(outbox.pump(2)), ['m33']);
});

test('deleting what is gone already is done', () => {
  const outbox = new Outbox();
  outbox.add({ ...send(1), op_id: 'd1', kind: 'delete', content: null });
  outbox.pump(0);
  outbox.refused('d1', { code: 'message_not_found', message: '', temporary: false }, 1, 0);
  assert.deepEqual(outbox.entries, []);
});

test('an edit is drawn until its event comes, before or after its ack', () => {
  const outbox = new Outbox();
  const edit: Command = { ...send(1), op_id: 'e1', kind: 'edit', content: 'better' };
  outbox.add(edit);
  outbox.pump(0);
  outbox.acked('e1', 'persisted', 9, 1);
  outbox.seen(shown('m1', 'as before'), 8);
  assert.equal(outbox.entries.length, 1);
  outbox.seen(shown('m1', 'edited once more'), 10);
  assert.equal(outbox.entries.length, 0);
  outbox.add({ ...edit, op_id: 'e2' });
  outbox.pump(2);
  outbox.seen(shown('m1', 'better'), 11);
  assert.equal(outbox.entries.length, 0);
});

test('another tab shows what the sending tab tells, and can take over', () => {
  const leader = new Outbox();
  const follower = new Outbox();
  for (const outbox of [leader, follower]) outbox.add(send(1));
  leader.pump(5);
  follower.mirror(leader.takeChanges().changed, [], [['m1', { sent_ms: 5 }]]);
  assert.equal(follower.entries[0]?.phase, 'sent');
  assert.equal(follower.trail('m1')?.sent_ms, 5);
  follower.disconnected();
  assert.deepEqual(ids(follower.pump(6)), ['m1']);
});
