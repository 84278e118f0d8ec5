import assert from 'node:assert/strict';
import { test } from 'node:test';
import { afterClose, backoffMs, Heartbeat } from '../src/connection.ts';
import { decodeFrame } from '../src/frames.ts';
import { uuidV7 } from '../src/ids.ts';
import { Marks } from '../src/marks.ts';
import { ResumePlanner } from '../src/resume-planner.ts';

test('close codes', () => {
  assert.equal(afterClose(4101), 'fresh_token');
  assert.equal(afterClose(4102), 'stay_away');
  for (const code of [1000, 1001, 1006, 1011, 4001, 4008, 4009]) assert.equal(afterClose(code), 'reconnect');
});

test('backoff doubles, is spread, and ends', () => {
  assert.equal(backoffMs(0, 1), 400);
  assert.equal(backoffMs(0, 0), 200);
  assert.equal(backoffMs(3, 1), 3_200);
  assert.equal(backoffMs(50, 1), 20_000);
});

test('heartbeats: unanswered for two intervals is dead, a slowed timer is not', () => {
  const heart = new Heartbeat(5_000, 0);
  assert.equal(heart.tick(4_999), null);
  assert.equal(heart.tick(5_000), 'beat');
  heart.heard();
  assert.equal(heart.tick(65_000), 'beat');
  assert.equal(heart.tick(70_000), 'beat');
  assert.equal(heart.tick(75_001), 'dead');
});

test('frames: what is none gives null, an unknown event keeps its seq', () => {
  for (const text of ['', '{', '7', 'null', '{"event":3}']) assert.equal(decodeFrame(text), null);
  assert.deepEqual(decodeFrame('{"event":"poll_made","payload":{"chat_id":"c","seq":4}}'), {
    event: 'unknown', payload: { chat_id: 'c', seq: 4 },
  });
});

test('uuid v7 has its version, its variant and its time', () => {
  const id = uuidV7(0x0123456789ab, new Uint8Array(16).fill(0xff));
  assert.equal(id, '01234567-89ab-7fff-bfff-ffffffffffff');
});

test('marks: once a second, all chats together, only what is news', () => {
  const marks = new Marks();
  marks.adopt('a', { delivered_seq: 5, read_seq: 2 });
  marks.want('mark_delivered', 'a', 5);
  assert.equal(marks.due('mark_delivered', 0), null);
  marks.want('mark_delivered', 'a', 7);
  marks.want('mark_delivered', 'a', 6);
  marks.want('mark_delivered', 'b', 1);
  assert.deepEqual(marks.due('mark_delivered', 0), { a: 7, b: 1 });
  marks.want('mark_delivered', 'a', 8);
  assert.equal(marks.due('mark_delivered', 999), null);
  assert.deepEqual(marks.due('mark_delivered', 1_000), { a: 8 });
});

test('marks lost with a connection are sent again unless the server has them', () => {
  const marks = new Marks();
  marks.want('mark_read', 'a', 3);
  marks.want('mark_read', 'b', 4);
  marks.due('mark_read', 0);
  marks.disconnected();
  marks.adopt('a', { delivered_seq: 3, read_seq: 3 });
  assert.deepEqual(marks.due('mark_read', 5_000), { b: 4 });
});

test('resume: a jump at once, an unmet head after a second, again ever more slowly', () => {
  const planner = new ResumePlanner();
  planner.note('jump', { cursor: 1, behind: true, gap: true }, 0);
  planner.note('head', { cursor: 1, behind: true, gap: false }, 0);
  assert.deepEqual(planner.due(0), ['jump']);
  assert.deepEqual(planner.due(999), []);
  assert.deepEqual(planner.due(1_000).sort(), ['head', 'jump']);
  assert.deepEqual(planner.due(1_999), []);
  assert.deepEqual(planner.due(2_000), ['head']);
  assert.deepEqual(planner.due(3_000), ['jump']);
  planner.note('jump', { cursor: 9, behind: false, gap: false }, 3_100);
  planner.note('head', { cursor: 9, behind: false, gap: false }, 3_100);
  assert.deepEqual(planner.due(60_000), []);
});

test('resume: an answer that was cut short asks for the rest at once, if it told anything', () => {
  const planner = new ResumePlanner();
  planner.askNow('a', 1);
  assert.deepEqual(planner.due(0), ['a']);
  planner.note('a', { cursor: 200, behind: true, gap: false }, 10);
  planner.cutShort('a', 200, true, 10);
  assert.deepEqual(planner.due(11), ['a']);
  planner.cutShort('b', 7, true, 20);
  assert.deepEqual(planner.due(20), ['b'], 'also of a chat that seems to miss nothing');
  planner.cutShort('c', 7, false, 30);
  assert.deepEqual(planner.due(30), [], 'the server could read nothing just now');
  assert.ok(planner.due(1_030).includes('c'));
});
