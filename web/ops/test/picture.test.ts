import assert from 'node:assert/strict';
import { test } from 'node:test';
import { atMost, bytes, count, counted, rate, seconds } from '../src/model/format.ts';
import { backlogsOf, lanesOf, projectionsOf } from '../src/model/picture.ts';
import { sampleOf } from '../src/model/sample.ts';
import { Window } from '../src/model/window.ts';
import { BACK, installation, type Changes } from './installation.ts';

const window = (now: Changes = {}, before: Changes = now) => new Window(sampleOf(installation(100, before)), sampleOf(installation(102, now)));
const stations = (now: Changes = {}, before: Changes = now) =>
  Object.fromEntries(lanesOf(window(now, before)).flatMap((lane) => lane.stations.map((station) => [station.segment, station])));

test('each part shows what goes through it', () => {
  const { gateway, persister, cdc, sockets, slot, commands } = stations();
  assert.deepEqual([gateway?.main, persister?.main, cdc?.main, sockets?.main], ['40', '40', '40', '160']);
  assert.deepEqual([slot?.main, slot?.unit, commands?.main], ['23 MB', 'WAL kept', '0']);
  const { notifier, providers, operators, numbers } = stations();
  assert.deepEqual([notifier?.main, providers?.main, operators?.main, numbers?.main], ['40', '40', '40', '4.0']);
  assert.deepEqual(notifier?.figures.map(({ value }) => value), ['0', '40', '2']);
  assert.deepEqual(providers?.figures[0], { label: 'from event, p95', value: '≤ 100 ms' });
  assert.deepEqual(gateway?.figures[0], { label: 'acknowledged, p95', value: '≤ 5 ms' });
});

test('what was never counted is 0 where its role runs, and a dash where no process tells', () => {
  assert.equal(stations().redis?.figures[0]?.value, '0');
  const { persister, gateway } = stations({ silent: [BACK] });
  assert.equal(persister?.main, '–');
  assert.equal(gateway?.main, '40');
});

test('WAL kept is what the worker that streams sees', () => {
  const { slot } = stations({ front: { waltalkie_cdc_is_streaming: 0, waltalkie_cdc_wal_retained_bytes: 9e9 } });
  assert.equal(slot?.main, '23 MB');
});

test('projections are found by their lag, and time is what waits at the present rate', () => {
  const waiting = { 'waltalkie_projector_chat_head_lag_records{topic="chat.events",partition="0"}': 80, 'waltalkie_projector_new_one_lag_records{topic="chat.events",partition="0"}': 1 };
  const rows = projectionsOf(window({ back: waiting }));
  assert.deepEqual(rows.map(({ name }) => name), ['membership', 'chat_head', 'cursor', 'inbox_events', 'inbox_cursors', 'new_one']);
  assert.deepEqual(rows.map(({ waitingSeconds }) => waitingSeconds), [0, 2, 0, 390 / 40, 0, null]);
  assert.deepEqual(rows.filter(({ isKeptBehind }) => isKeptBehind).map(({ name }) => name), ['inbox_events']);
  assert.deepEqual(backlogsOf(window()).slice(-4).map(({ reader, topic }) => `${reader} ${topic}`), ['inbox_cursors chat.cursors', 'notifier chat.events', 'senders chat.notifications', 'operators chat.events']);
  const [persister, ofCursors, ofEvents] = backlogsOf(window());
  assert.equal(persister?.partitions.length, 3);
  assert.deepEqual([ofCursors, ofEvents].map((backlog) => [backlog?.reader, backlog?.topic, backlog?.partitions.length]), [['publisher', 'chat.cursors', 3], ['publisher', 'chat.events', 3]]);
});

test('figures as people read them', () => {
  assert.deepEqual([rate(null), rate(0), rate(3.21), rate(1234.4), count(12_345_678)], ['–', '0', '3.2', '1,234', '12.3 M']);
  assert.deepEqual([bytes(0), bytes(999), bytes(1_500), bytes(23_068_672), bytes(5.2e9)], ['0 B', '999 B', '1.5 kB', '23 MB', '5.2 GB']);
  assert.deepEqual([seconds(0), seconds(0.0005), seconds(0.04), seconds(2.5), seconds(90), seconds(600), seconds(9_000)], ['0 s', '0.5 ms', '40 ms', '2.5 s', '90 s', '10 min', '3 h']);
  assert.deepEqual([atMost(0.025), atMost(Infinity), atMost(null)], ['≤ 25 ms', '> 30 s', '–']);
  assert.deepEqual([counted(1, 'event'), counted(2_000, 'event')], ['1 event', '2,000 events']);
});
