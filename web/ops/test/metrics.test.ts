import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Metrics } from '../src/model/metrics.ts';
import { sampleOf } from '../src/model/sample.ts';
import { Window } from '../src/model/window.ts';
import { FRONT, histogram, installation } from './installation.ts';

test('a line is a name, labels in any order, and a figure', () => {
  const metrics = new Metrics('# HELP x words\n# TYPE x counter\nx{b="2",a="say \\"hi\\" {}"} 1.5e3\nx{a="other"} 2\n\ny 7\ny_broken\nz NaN\n');
  assert.deepEqual(metrics.lines('x').map(({ value }) => value), [1_500, 2]);
  assert.equal(metrics.lines('x', { a: 'say "hi" {}', b: '2' }).length, 1);
  assert.equal(metrics.lines('x', { a: 'nothing' }).length, 0);
  assert.deepEqual(metrics.lines('y'), [{ labels: {}, value: 7 }]);
  assert.deepEqual([...metrics.names()], ['x', 'y']);
});

const window = (before: Parameters<typeof installation>[1], now: Parameters<typeof installation>[1]) =>
  new Window(sampleOf(installation(100, before)), sampleOf(installation(102, now)));

test('a rate is what came in between, a second, over all processes', () => {
  const two = window({}, {});
  assert.equal(two.seconds, 2);
  assert.equal(two.rate('waltalkie_persister_commands_total'), 40);
  assert.equal(two.rate('waltalkie_projector_applied_records_total', { projection: 'inbox' }), 40);
  assert.equal(two.rate('waltalkie_nothing_total'), null);
  assert.equal(new Window(null, sampleOf(installation(2))).rate('waltalkie_persister_commands_total'), null);
});

test('a counter that appeared rose from nothing, and one that fell began anew', () => {
  const key = 'waltalkie_gateway_refusals_total';
  const two = window({}, { front: { [`${key}{code="overloaded"}`]: 6 }, back: { waltalkie_cdc_rows_total: 10 } });
  assert.equal(two.rise(key, { code: 'overloaded' }), 6);
  assert.equal(two.rise('waltalkie_cdc_rows_total'), 10);
});

test('a process that did not answer before has no rates yet, and one that does not answer now has no gauges', () => {
  assert.equal(window({ silent: [FRONT] }, {}).rate('waltalkie_gateway_commands_accepted_total'), null);
  assert.equal(window({}, { silent: [FRONT] }).gauge('waltalkie_fanout_connections'), null);
});

test('a quantile is of what was taken in between', () => {
  const name = 'waltalkie_gateway_decide_seconds';
  const slow = { ...histogram(name, 4_000, 0.025), [`${name}_bucket{le="+Inf"}`]: 4_100, [`${name}_bucket{le="30"}`]: 4_100, [`${name}_count`]: 4_100 };
  const two = window({ front: histogram(name, 4_000, 0.025) }, { front: slow });
  assert.equal(two.quantile(name, 0.95), 30);
  assert.equal(window({}, {}).quantile(name, 0.95), 0.025);
  assert.equal(window({ front: slow }, { front: slow }).quantile(name, 0.95), null);
});

test('what waits is told by partition', () => {
  const two = window({}, { back: { 'waltalkie_persister_lag_records{topic="chat.commands",partition="2"}': 17 } });
  assert.deepEqual(two.partitions('waltalkie_persister_lag_records').map(({ partition, records }) => [partition, records]), [[0, 0], [1, 0], [2, 17]]);
  assert.equal(two.gauge('waltalkie_persister_lag_records'), 17);
});
