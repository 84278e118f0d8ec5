import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { diagnose } from '../src/model/diagnosis.ts';
import { sampleOf } from '../src/model/sample.ts';
import { BACK, FRONT, installation, type Changes } from './installation.ts';

function look(now: Changes, before: Changes = now) {
  return diagnose(sampleOf(installation(100, before)), sampleOf(installation(102, now)));
}

const away = (role: string, problem: string) => ({ role, is_ready: false, problem });
const ended = (role: string, problem = 'its loop has ended') => ({ role, is_ready: false, is_healthy: false, problem });
const lag = (role: string, records: number) => ({ [`waltalkie_${role}_lag_records{topic="chat.events",partition="1"}`]: records });

/** Each as the program shows it: what is laid over a healthy installation, the sentence, the parts that are marked. */
const FAULTS: { name: string; now: Changes; before?: Changes; sentence: string; segments: string[] }[] = [
  {
    name: 'Kafka away, while roles are idle',
    now: { roles: [away('projector', 'Kafka: Kafka at 10.0.0.9:9092 doesn\'t answer: Meta data fetch error: BrokerTransportFailure (Local: Broker transport failure)')] },
    sentence: 'Kafka doesn’t answer, so no message is accepted and none is published: run `waltalkie doctor`.',
    segments: ['commands', 'events'],
  },
  {
    name: 'Kafka away, under load: the worker and the projections say it in their own words',
    now: {
      roles: [
        away('cdc', 'Kafka has committed nothing for 12 s'),
        away('projector', 'Kafka: Kafka at 10.0.0.9:9092 doesn\'t answer: x; cursor: merged cursors could not be published: Message timed out'),
      ],
    },
    sentence: 'Kafka doesn’t answer, so no message is accepted and none is published: run `waltalkie doctor`.',
    segments: ['commands', 'events'],
  },
  {
    name: 'PostgreSQL away',
    now: {
      roles: [
        away('cdc', 'no replication connection to Postgres at 10.0.0.8:5432: Connection refused (os error 111)'),
        away('hub', 'Postgres is away'),
        away('persister', 'Postgres: a statement failed: connection closed'),
        away('projector', 'Postgres: no connection to the database: Timeout occurred; chat_head: no connection to the database: x'),
        away('notifier', 'Postgres: no connection to the database: Timeout occurred; looks: no connection to the database: x'),
      ],
      back: { waltalkie_cdc_is_streaming: 0 },
    },
    sentence: 'PostgreSQL doesn’t answer, so accepted messages wait in Kafka and nothing is persisted: run `waltalkie doctor`.',
    segments: ['truth', 'slot'],
  },
  {
    name: 'PostgreSQL of the read models away',
    now: {
      roles: [
        away('projector', 'Postgres: no connection to the database: Timeout occurred while waiting for a slot to become available'),
        away('notifier', 'sender: no connection to the database: Timeout occurred while waiting for a slot to become available'),
      ],
    },
    sentence: 'PostgreSQL doesn’t answer for the read models, so chat lists, unread counts and receipts stand still: run `waltalkie doctor`.',
    segments: ['read'],
  },
  {
    name: 'Redis away',
    now: { roles: [away('publisher', 'Redis is away')], back: { waltalkie_publisher_retries_total: 9, ...lag('publisher', 4_000) } },
    before: { back: { waltalkie_publisher_retries_total: 4 } },
    sentence: 'Redis takes no events, so people see new messages only once a heartbeat: run `waltalkie doctor`.',
    segments: ['redis'],
  },
  {
    name: 'registry away',
    now: { roles: [away('persister', 'a new schema of chat.commands can\'t be read: schema registry http://10.0.0.7:8081: no answer')] },
    sentence: 'The schema registry doesn’t answer, and the persister waits for a schema: run `waltalkie schemas check`.',
    segments: ['registry'],
  },
  {
    name: 'registry away when the worker starts',
    now: { roles: [away('cdc', 'schema registry http://10.0.0.7:8081: no answer: error sending request')], back: { waltalkie_cdc_is_streaming: 0 } },
    sentence: 'The schema registry doesn’t answer, and the CDC worker waits for a schema: run `waltalkie schemas check`.',
    segments: ['registry'],
  },
  {
    name: 'slot lost',
    now: {
      roles: [ended('cdc', 'slot waltalkie: not started: the server has given it up (wal_removed): WAL that wasn\'t read yet is gone, but the tables hold all that it said.')],
      back: { waltalkie_cdc_is_streaming: 0 },
    },
    sentence: 'The replication slot is lost, so nothing more is published: run `waltalkie cdc resnapshot --dry-run`.',
    segments: ['slot'],
  },
  {
    name: 'persister stopped for good',
    now: { roles: [ended('persister', 'the persister can\'t move its offsets: x')] },
    sentence: `The persister has stopped at ${BACK} (the persister can't move its offsets: x), so accepted messages wait in Kafka: run \`waltalkie run persister\`.`,
    segments: ['persister'],
  },
  {
    name: 'the process with everything but the gateway is gone',
    now: { silent: [BACK] },
    sentence: `The persister has stopped: ${BACK} doesn’t answer, so accepted messages wait in Kafka: run \`waltalkie run persister cdc publisher projector notifier operators\`.`,
    segments: ['persister'],
  },
  {
    name: 'CDC worker stopped for good',
    now: { roles: [ended('cdc', 'slot waltalkie: stopped: publication waltalkie was changed by somebody')], back: { waltalkie_cdc_is_streaming: 0 } },
    sentence: `The CDC worker has stopped at ${BACK} (slot waltalkie: stopped: publication waltalkie was changed by somebody), so nothing is published: run \`waltalkie cdc status\`.`,
    segments: ['cdc'],
  },
  {
    name: 'CDC worker fenced: all stand by',
    now: { back: { waltalkie_cdc_is_streaming: 0 } },
    sentence: 'The CDC worker stands by and none streams, so nothing is published: run `waltalkie cdc status`.',
    segments: ['cdc'],
  },
  {
    name: 'CDC worker that starts over and over',
    now: { roles: [away('cdc', 'starting to stream took too long: Kafka, Postgres or the registry is slow to answer')], back: { waltalkie_cdc_is_streaming: 0 } },
    sentence: 'The CDC worker starts over (starting to stream took too long: Kafka, Postgres or the registry is slow to answer), so nothing is published: run `waltalkie cdc status`.',
    segments: ['cdc'],
  },
  {
    name: 'WAL piling up',
    now: { back: { waltalkie_cdc_wal_retained_bytes: 5.2e9 } },
    sentence: 'The replication slot keeps 5.2 GB of WAL on PostgreSQL’s disk: run `waltalkie cdc status`.',
    segments: ['slot'],
  },
  {
    name: 'projection stopped by a poison',
    now: {
      roles: [
        ended('projector', 'membership: projection membership stopped: the record in chat.events, partition 1, offset 12 can\'t be used. Nothing was skipped; it goes on from there once this program can read the record: no Avro'),
      ],
      back: { 'waltalkie_projector_poison_records_total{projection="membership"}': 1 },
    },
    sentence: 'The projector’s membership has stopped at a record that it can’t use (chat.events, partition 1, offset 12), and its read model stands still: run `waltalkie schemas check`.',
    segments: ['projector'],
  },
  {
    name: 'projection of another version',
    now: { roles: [ended('projector', 'inbox: projection inbox has rows of version 1, and this program has version 2: `waltalkie rebuild inbox` makes them again, while the old ones are read')] },
    sentence: 'The projector’s inbox stands still before rows that another version made: run `waltalkie rebuild inbox`.',
    segments: ['projector'],
  },
  {
    name: 'cursors of another log',
    now: { roles: [ended('projector', 'cursor: projection cursor has offsets of the log a/b (cluster/topic id), but `kafka.brokers` has c/d. Point `kafka.brokers` at the former one')] },
    sentence: 'The projector’s cursor stands still before rows that another log made, and they may be the only copy: see with `waltalkie config` whether kafka.brokers is the right one, and don’t rebuild before you have read the runbook.',
    segments: ['projector'],
  },
  {
    name: 'publisher behind',
    now: { back: lag('publisher', 12_400) },
    before: { back: lag('publisher', 12_300) },
    sentence: 'The publisher is behind by 12,400 events, so people see messages late: run `waltalkie run publisher` on another machine.',
    segments: ['publisher'],
  },
  {
    name: 'persister behind',
    now: { back: lag('persister', 9_000) },
    sentence: 'The persister is behind by 9,000 commands, and senders wait: run `waltalkie run persister` on another machine.',
    segments: ['persister'],
  },
  {
    name: 'projection behind',
    now: { back: lag('projector_chat_head', 50_000) },
    sentence: 'The projector’s chat_head is behind by 50,000 records: run `waltalkie run projector` on another machine.',
    segments: ['projector'],
  },
  {
    name: 'gateway overloaded',
    now: { front: { 'waltalkie_gateway_refusals_total{code="overloaded"}': 70 }, back: lag('persister', 20_000) },
    before: {},
    sentence: 'The gateway refuses 35 sends a second as overloaded while 20,000 commands for the persister wait: run `waltalkie run persister` on another machine.',
    segments: ['gateway'],
  },
  {
    name: 'node over its limit',
    now: { front: { 'waltalkie_gateway_limited_total{limit="node"}': 10 } },
    before: {},
    sentence: 'The gateway refuses 5.0 commands a second over a node’s limit: run `waltalkie run gateway` on another machine.',
    segments: ['gateway'],
  },
  {
    name: 'notifier stopped for good',
    now: { roles: [ended('notifier', 'the mail templates can\'t be used')] },
    sentence: `The notifier has stopped at ${BACK} (the mail templates can't be used), so nobody who is away is told: run \`waltalkie run notifier\`.`,
    segments: ['notifier'],
  },
  {
    name: 'notifier behind',
    now: { back: lag('notifier_decider', 8_000) },
    sentence: 'The notifier is behind by 8,000 records, so people who are away are told late: run `waltalkie run notifier` on another machine.',
    segments: ['notifier'],
  },
  {
    name: 'a provider of push away',
    now: { back: { waltalkie_notifier_open_breakers: 1, waltalkie_notifier_waiting_tasks: 312 } },
    sentence: 'The notifier calls 1 provider in vain again and again, and 312 notifications wait: run `waltalkie doctor`.',
    segments: ['providers'],
  },
  {
    name: 'stream operators stopped for good',
    now: { roles: [ended('operators', 'the topic operators.state is not compacted')] },
    sentence: `The role operators has stopped at ${BACK} (the topic operators.state is not compacted), so chat.activity and chat.abuse stand still: run \`waltalkie run operators\`.`,
    segments: ['operators'],
  },
  {
    name: 'stream operators behind',
    now: { back: lag('operators', 70_000) },
    sentence: 'The role operators is behind by 70,000 events: run `waltalkie run operators` on another machine.',
    segments: ['operators'],
  },
  {
    name: 'dead letters open',
    now: { back: { waltalkie_persister_open_dead_letters: 3 } },
    sentence: 'The persister has put 3 commands aside that nobody has settled: run `waltalkie dlq list`.',
    segments: ['persister'],
  },
  {
    name: 'a projection has put something aside',
    now: { back: { 'waltalkie_projector_dead_letter_at_seconds{projection="inbox"}': 1_800_000_000 } },
    sentence: 'Something in chat.events is no event and was put aside within the last hour: run `waltalkie dlq list --topic events`.',
    segments: ['events'],
  },
  {
    name: 'the stream operators have',
    now: { back: { waltalkie_operators_dead_letter_at_seconds: 1_799_996_700 } },
    sentence: 'Something in chat.events is no event and was put aside within the last hour: run `waltalkie dlq list --topic events`.',
    segments: ['events'],
  },
  {
    name: 'a role beside the way of a message',
    now: { roles: [away('janitor', 'removing rows: permission denied for table inbox')] },
    sentence: `The janitor at ${BACK} isn’t ready (removing rows: permission denied for table inbox): run \`waltalkie doctor\`.`,
    segments: [],
  },
  {
    name: 'node not ready',
    now: { roles: [away('gateway', 'auth.jwks_url gives no keys')] },
    sentence: `The gateway at ${FRONT} isn’t ready (auth.jwks_url gives no keys): run \`waltalkie doctor\`.`,
    segments: ['gateway'],
  },
];

describe('each fault is named by one sentence', () => {
  for (const { name, now, before, sentence, segments } of FAULTS) {
    test(name, () => {
      const { fault, states } = look(now, before);
      assert.equal(fault?.sentence, sentence);
      assert.deepEqual(fault?.segments, segments);
      for (const segment of segments) assert.equal(states[segment as keyof typeof states], 'ailing');
      assert.equal(sentence.match(/`[^`]+`/g)?.length, 1, 'one command');
      assert.equal(sentence.match(/\.(?= |$)/g)?.length, 1, 'one sentence');
      assert.match(fault?.runbook ?? '', /^[a-z-]+$/);
    });
  }
});

test('a healthy installation has nothing to say, under load, idle, and at the first look', () => {
  const { fault, states } = look({});
  assert.equal(fault, null);
  assert.deepEqual(new Set(Object.values(states)), new Set(['well']));
  assert.equal(diagnose(null, sampleOf(installation(100))).fault, null);
  assert.equal(diagnose(sampleOf(installation(100)), sampleOf({ ...installation(100), at_ms: installation(102).at_ms })).fault, null);
});

test('what is over or shrinks is no fault', () => {
  assert.equal(look({ back: lag('publisher', 1_200) }, { back: lag('publisher', 9_000) }).fault, null, 'shrinks');
  assert.equal(look({ back: lag('publisher', 999) }).fault, null, 'a few');
  assert.equal(look({ back: lag('projector_inbox_events', 60_000) }).fault, null, 'behind on purpose');
  assert.equal(look({ front: { 'waltalkie_gateway_refusals_total{code="overloaded"}': 70 } }).fault, null, 'no new refusals');
  assert.equal(look({ back: { waltalkie_publisher_retries_total: 9 } }).fault, null, 'no new retries');
  assert.equal(look({ back: { waltalkie_operators_dead_letter_at_seconds: 1_799_996_400 } }).fault, null, 'more than an hour ago');
  assert.equal(look({ back: { waltalkie_cdc_is_streaming: 0 } }, {}).fault, null, 'a takeover takes a moment');
});

test('what only a process that is gone could tell of is unseen', () => {
  const { states } = look({ silent: [BACK] });
  assert.deepEqual([states.cdc, states.slot, states.redis], ['hindered', 'unseen', 'unseen']);
  assert.deepEqual([states.truth, states.gateway, states.sockets], ['well', 'well', 'well']);
});

test('a role that is not ready yet has until the second look', () => {
  const starting = { roles: [{ role: 'publisher', is_ready: false }] };
  assert.equal(look(starting, {}).fault, null);
  assert.equal(look({ roles: [away('projector', 'chat_head: starting; inbox-cursors: starting')] }, {}).fault, null);
  assert.equal(look(starting).fault?.sentence, `The publisher at ${BACK} isn’t ready (still starting): run \`waltalkie doctor\`.`);
});

test('the cause is named, not what follows from it', () => {
  const both = look({
    roles: [away('publisher', 'Redis is away'), away('hub', 'Postgres is away')],
    back: { ...lag('publisher', 50_000), waltalkie_persister_open_dead_letters: 1 },
  });
  assert.match(both.fault?.sentence ?? '', /^PostgreSQL/);
  assert.equal(both.states.redis, 'hindered');
  assert.equal(both.states.publisher, 'hindered');
});

test('a process that is gone while others do its work is named; one that was never heard of is a matter of the settings', () => {
  const spare = (data = installation(100)) => ({
    ...data,
    processes: [...data.processes, { address: 'http://10.0.0.3:8090', readyz: { roles: [{ role: 'gateway', is_healthy: true, is_ready: true }, { role: 'hub', is_healthy: true, is_ready: true }] }, problem: 'no answer' }],
  });
  const known = diagnose(sampleOf(spare()), sampleOf(spare(installation(102))));
  assert.equal(known.fault?.sentence, 'The process at http://10.0.0.3:8090 (gateway) doesn’t answer, and others do its work: run `waltalkie run gateway` there.');
  const strange = { ...installation(102), processes: [...installation(102).processes, { address: 'http://10.0.0.4:8090', problem: 'no answer' }] };
  assert.match(diagnose(null, sampleOf(strange)).fault?.sentence ?? '', /never has: look at `ops\.peers` with `waltalkie config`/);
});

test('a worker that was alone in its process is gone, and what it said last counts until another one runs', () => {
  const address = 'http://10.0.0.3:8090';
  const sentence = (status: { is_healthy: boolean; problem?: string }, runsElsewhere = false) => {
    const data = installation(102);
    const others = data.processes.map((process) => ({
      ...process,
      readyz: { roles: (process.readyz?.roles ?? []).filter(({ role }) => runsElsewhere || role !== 'cdc') },
    }));
    const worker = { address, readyz: { roles: [{ role: 'cdc', is_ready: false, ...status }] }, problem: 'nobody listens there' };
    return diagnose(null, sampleOf({ ...data, processes: [...others, worker] })).fault?.sentence;
  };
  const changed = { is_healthy: false, problem: 'slot waltalkie: stopped: publication waltalkie was changed by somebody' };
  assert.equal(
    sentence(changed),
    `The CDC worker has stopped at ${address} (slot waltalkie: stopped: publication waltalkie was changed by somebody), so nothing is published: run \`waltalkie cdc status\`.`,
  );
  const lost = { is_healthy: false, problem: "slot waltalkie: not started: it isn't there; `waltalkie migrate` makes it" };
  assert.equal(sentence(lost), 'The replication slot is lost, so nothing more is published: run `waltalkie cdc resnapshot --dry-run`.');
  const killed = `The CDC worker has stopped: ${address} doesn’t answer, so nothing is published: run \`waltalkie run cdc\`.`;
  assert.equal(sentence({ is_healthy: true }), killed);
  const away = { is_healthy: false, problem: "Kafka at 10.0.0.9:9092 doesn't answer: x" };
  assert.match(sentence(away) ?? '', /^The CDC worker has stopped at/, 'Kafka may be there by now');
  for (const status of [changed, lost]) assert.match(sentence(status, true) ?? '', /^The process at .* others do its work/);
});

test('roles that no process tells of are unseen, and no fault', () => {
  const data = installation(102);
  data.processes = data.processes.slice(0, 1);
  const { fault, states } = diagnose(null, sampleOf(data));
  assert.equal(fault, null);
  assert.equal(states.gateway, 'well');
  assert.equal(states.persister, 'unseen');
  assert.equal(states.slot, 'unseen');
});
