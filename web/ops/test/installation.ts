/**
 * `/ops/data.json` of an installation of two processes, as the program writes it: a gateway, and the other roles. Figures go up
 * with time; what a test changes is laid over them.
 */
import type { OpsData, RoleStatus } from '../src/model/sample.ts';

export const FRONT = 'http://10.0.0.1:8090';
export const BACK = 'http://10.0.0.2:8090';

/** A figure by its line's name and labels, such as `waltalkie_fanout_closed_total{code="1001"}`. */
export type Figures = Record<string, number>;

export interface Changes {
  front?: Figures;
  back?: Figures;
  roles?: Partial<RoleStatus>[];
  silent?: string[];
}

const ENDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
const LAGS = {
  persister: 'chat.commands', publisher: 'chat.events', publisher_of_cursors: 'chat.cursors', projector_membership: 'chat.events', projector_chat_head: 'chat.events',
  projector_cursor: 'chat.marks', projector_inbox_events: 'chat.events', projector_inbox_cursors: 'chat.cursors',
  notifier_decider: 'chat.events', notifier_intake: 'chat.notifications', operators: 'chat.events',
};

/** The installation after so many seconds, at 40 messages a second. */
export function installation(seconds: number, { front = {}, back = {}, roles = [], silent = [] }: Changes = {}): OpsData {
  const done = 40 * seconds;
  const statuses = (...names: string[]): RoleStatus[] =>
    names.map((role) => ({ role, is_healthy: true, is_ready: true, ...roles.find((change) => change.role === role) }));
  const processes: OpsData['processes'] = [
    { address: FRONT, readyz: { roles: statuses('gateway', 'hub') }, metrics: text({ ...frontFigures(done), ...front }) },
    {
      address: BACK,
      readyz: { roles: statuses('cdc', 'janitor', 'notifier', 'operators', 'persister', 'projector', 'publisher') },
      metrics: text({ ...backFigures(done), ...back }),
    },
  ];
  for (const process of processes.filter(({ address }) => silent.includes(address))) {
    delete process.metrics;
    process.problem = 'no answer within 1 s';
  }
  return { at_ms: 1_800_000_000_000 + seconds * 1_000, processes };
}

function frontFigures(done: number): Figures {
  return {
    waltalkie_gateway_commands_accepted_total: done,
    'waltalkie_gateway_refusals_total{code="forbidden"}': 3,
    waltalkie_gateway_marks_total: done * 2,
    ...histogram('waltalkie_gateway_accept_seconds', done, 0.005),
    ...histogram('waltalkie_gateway_decide_seconds', done, 0.025),
    waltalkie_fanout_connections: 120,
    waltalkie_fanout_chats: 31,
    waltalkie_fanout_events_total: done,
    waltalkie_fanout_deliveries_total: done * 4,
    waltalkie_fanout_queued_bytes: 0,
    'waltalkie_fanout_closed_total{code="1001"}': 7,
    ...histogram('waltalkie_fanout_event_age_seconds', done, 0.05),
  };
}

function backFigures(done: number): Figures {
  const lags = Object.entries(LAGS).flatMap(([role, topic]) =>
    [0, 1, 2].map((partition) => [`waltalkie_${role.replace('_of_cursors', '')}_lag_records{topic="${topic}",partition="${partition}"}`, role === 'projector_inbox_events' ? 130 : 0]),
  );
  const projections = ['membership', 'chat_head', 'cursor', 'inbox'].flatMap((projection) => [
    [`waltalkie_projector_applied_records_total{projection="${projection}"}`, done],
    [`waltalkie_projector_lag_seconds{projection="${projection}"}`, projection === 'inbox' ? 10.1 : 0.04],
  ]);
  return {
    waltalkie_persister_commands_total: done,
    waltalkie_persister_open_dead_letters: 0,
    ...histogram('waltalkie_persister_batch_seconds', done / 4, 0.01),
    waltalkie_cdc_rows_total: done,
    waltalkie_cdc_transactions_total: done / 4,
    waltalkie_cdc_starts_total: 1,
    waltalkie_cdc_is_streaming: 1,
    waltalkie_cdc_unconfirmed_bytes: 2_008,
    waltalkie_cdc_wal_retained_bytes: 23_068_672,
    ...histogram('waltalkie_cdc_arrival_seconds', done, 0.01),
    ...histogram('waltalkie_cdc_publish_seconds', done / 4, 0.005),
    waltalkie_publisher_events_total: done,
    waltalkie_publisher_receipts_total: done / 2,
    waltalkie_janitor_swept_rows_total: 12,
    'waltalkie_notifier_decisions_total{push="send"}': done,
    waltalkie_notifier_published_notifications_total: done,
    'waltalkie_notifier_tries_total{service="apns",outcome="sent"}': done,
    waltalkie_notifier_waiting_tasks: 2,
    waltalkie_notifier_open_breakers: 0,
    ...histogram('waltalkie_notifier_delivery_seconds', done, 0.1),
    waltalkie_operators_events_total: done,
    'waltalkie_operators_rows_total{topic="chat.activity"}': done / 10,
    ...Object.fromEntries([...lags, ...projections]),
  };
}

/** All of it took just under `within`. */
export function histogram(name: string, taken: number, within: number): Figures {
  const buckets = [...ENDS, Infinity].map((end) => [`${name}_bucket{le="${end === Infinity ? '+Inf' : end}"}`, end >= within ? taken : 0]);
  return { ...Object.fromEntries(buckets), [`${name}_sum`]: taken * within * 0.9, [`${name}_count`]: taken };
}

function text(figures: Figures): string {
  return Object.entries(figures).map(([line, value]) => `# TYPE ${line.replace(/\{.*/, '')} untyped\n${line} ${value}\n`).join('\n');
}
