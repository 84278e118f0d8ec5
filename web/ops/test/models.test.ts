import assert from 'node:assert/strict';
import { test } from 'node:test';
import { modelsOf } from '../src/model/models.ts';
import { sampleOf, type ReadModel, type Rebuild } from '../src/model/sample.ts';
import { installation } from './installation.ts';

const model = (change: Partial<ReadModel>): ReadModel => ({ projection: 'chat_head', version: 2, program_version: 2, rebuilt_at_ms: null, rebuild: null, ...change });
const rebuild = (change: Partial<Rebuild>): Rebuild => ({ version: 2, phase: 'reading chat.events', read: 250, expected: 1_000, silent_ms: 400, running_ms: 10_000, ...change });
const rows = (...models: ReadModel[]) => modelsOf(sampleOf({ ...installation(100), models }));

test('versions, and which of them aren’t the program’s', () => {
  const [same, older, foreign] = rows(model({ rebuilt_at_ms: 1_800_000_000_000 }), model({ version: 1 }), model({ projection: 'talkers', program_version: null }));
  assert.deepEqual([same?.version, same?.isOther, same?.madeAnew], ['2', false, '2027-01-15 08:00']);
  assert.deepEqual([older?.version, older?.isOther, older?.madeAnew], ['1, program 2', true, '–']);
  assert.deepEqual([foreign?.version, foreign?.isOther], ['2', false]);
});

test('how far a rebuild is, and that it has stopped', () => {
  const of = (change: Partial<Rebuild>) => rows(model({ rebuild: rebuild(change) }))[0]?.rebuild;
  assert.deepEqual(of({}), { percent: 25, isStopped: false, text: 'reading chat.events: 250 of 1,000 records, 30 s left' });
  assert.deepEqual(of({ read: 0, expected: 0, phase: '' }), { percent: null, isStopped: false, text: 'begins: 0 of 0 records' });
  assert.deepEqual(of({ silent_ms: 60_000 }), { percent: 25, isStopped: true, text: 'stopped at 250 of 1,000 records: waltalkie rebuild chat_head goes on' });
  assert.equal(of({ read: 1_001, phase: 'swapping the tables in' })?.text, 'swapping the tables in: 1,001 of 1,000 records');
});

test('a process that knows no read database shows none', () => {
  assert.deepEqual(modelsOf(sampleOf({ ...installation(100), models: null })), []);
  assert.deepEqual(modelsOf(sampleOf(installation(100))), []);
});
