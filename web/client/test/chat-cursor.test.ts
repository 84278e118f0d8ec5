import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ChatCursor } from '../src/chat-cursor.ts';

const seqs = (events: { seq: number }[]) => events.map(({ seq }) => seq);

test('events in order pass, repeats do not', () => {
  const cursor = new ChatCursor(4);
  assert.deepEqual(seqs(cursor.offer({ seq: 5 })), [5]);
  assert.deepEqual(seqs(cursor.offer({ seq: 5 })), []);
  assert.deepEqual(seqs(cursor.offer({ seq: 3 })), []);
  assert.equal(cursor.cursor, 5);
  assert.equal(cursor.behind, false);
});

test('a jump waits until the gap is filled, by events or by a skipped range', () => {
  const cursor = new ChatCursor(0);
  assert.deepEqual(seqs(cursor.offer({ seq: 5 })), []);
  assert.equal(cursor.gap, true);
  assert.deepEqual(seqs(cursor.offer({ seq: 1 })), [1]);
  assert.deepEqual(seqs(cursor.skip(2, 4)), [5]);
  assert.equal(cursor.gap, false);
  assert.equal(cursor.cursor, 5);
});

test('a skipped range may arrive early, overlap, and raises the head', () => {
  const cursor = new ChatCursor(2);
  cursor.skip(5, 8);
  assert.equal(cursor.head, 8);
  assert.deepEqual(seqs(cursor.skip(1, 6)), []);
  assert.equal(cursor.cursor, 8);
});

test('an unknown event counts and shows nothing', () => {
  const cursor = new ChatCursor<{ seq: number }>(0);
  cursor.offer({ seq: 2 });
  assert.deepEqual(seqs(cursor.pass(1)), [2]);
});

test('a head alone is no gap, but something is behind', () => {
  const cursor = new ChatCursor(1);
  cursor.observeHead(3);
  assert.equal(cursor.gap, false);
  assert.equal(cursor.behind, true);
});

test('what waits is bounded, and the next in order always fits', () => {
  const cursor = new ChatCursor(0);
  for (let seq = 2; seq < 3_000; seq++) cursor.offer({ seq });
  const shown = cursor.offer({ seq: 1 });
  assert.equal(shown.length, 1_001);
  assert.equal(cursor.cursor, 1_001);
  assert.equal(cursor.behind, true);
});

test('nonsense for a seq changes nothing', () => {
  const cursor = new ChatCursor(0);
  for (const seq of [Number.NaN, 1.5, -1, Number.POSITIVE_INFINITY]) assert.deepEqual(cursor.offer({ seq }), []);
  assert.equal(cursor.head, 0);
});
