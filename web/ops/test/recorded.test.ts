/** What a real installation of two processes said while its servers and processes were taken away; histograms are left out. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { diagnose } from '../src/model/diagnosis.ts';
import { sampleOf, type OpsData } from '../src/model/sample.ts';

const SAID: Record<string, string | null> = {
  healthy: null,
  'redis-away': 'Redis takes no events, so people see new messages only once a heartbeat: run `waltalkie doctor`.',
  'postgresql-away': 'PostgreSQL doesn’t answer, so accepted messages wait in Kafka and nothing is persisted: run `waltalkie doctor`.',
  'kafka-away': 'Kafka doesn’t answer, so no message is accepted and none is published: run `waltalkie doctor`.',
  'kafka-back': null,
  'process-frozen': 'The persister has stopped: http://127.0.0.1:9312 doesn’t answer, so accepted messages wait in Kafka: run `waltalkie run persister cdc publisher projector`.',
  'process-killed': 'The persister has stopped: http://127.0.0.1:9312 doesn’t answer, so accepted messages wait in Kafka: run `waltalkie run persister cdc publisher projector`.',
};

describe('recorded samples', () => {
  for (const [name, sentence] of Object.entries(SAID)) {
    test(name, () => {
      const path = new URL(`../../../ops/test/recorded/${name}.json`, import.meta.url);
      const [before, now] = JSON.parse(readFileSync(path, 'utf8')) as [OpsData, OpsData];
      assert.equal(diagnose(sampleOf(before), sampleOf(now)).fault?.sentence ?? null, sentence);
    });
  }
});
