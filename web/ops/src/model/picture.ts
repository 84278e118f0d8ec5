/** From a window to what each part of the picture shows. */
import type { Segment } from './faults/fault.ts';
import { walKept } from './faults/history.ts';
import { atMost, bytes, count, rate, seconds } from './format.ts';
import * as names from './names.ts';
import { standingOf } from './roles.ts';
import type { PartitionLag, Window } from './window.ts';

export interface Figure {
  readonly label: string;
  readonly value: string;
}

export interface Station {
  readonly segment: Segment;
  readonly title: string;
  /** What the eye is to find first. */
  readonly main: string;
  readonly unit: string;
  readonly figures: readonly Figure[];
  /** What goes through it a second, for the line that is drawn of it; null if it tells of no flow. */
  readonly flow: number | null;
}

export interface Lane {
  readonly title: string;
  readonly from: string;
  readonly stations: readonly Station[];
}

/** What a reader has not read of a topic. */
export interface Backlog {
  readonly reader: string;
  readonly topic: string;
  readonly total: number;
  readonly partitions: readonly PartitionLag[];
}

export interface ProjectionRow {
  readonly name: string;
  /** It stays behind on purpose. */
  readonly isKeptBehind: boolean;
  readonly perSecond: number | null;
  readonly waiting: number;
  readonly waitingSeconds: number | null;
  readonly ageSeconds: number | null;
  readonly poison: number;
}

export function lanesOf(window: Window): Lane[] {
  const flow = (name: string) => window.rate(name) ?? (hasRole(window, name) ? 0 : null);
  const rise = (name: string) => rate(flow(name));
  const p95 = (name: string) => atMost(window.quantile(name, 0.95));
  const [accepted, persisted, rows, published] = [flow(names.ACCEPTED), flow(names.PERSISTED), flow(names.ROWS), flow(names.PUBLISHED)];
  const [heard, delivered, applied] = [flow(names.HEARD), flow(names.DELIVERIES), flow(names.APPLIED)];
  const per = (segment: Segment, title: string, perSecond: number | null, unit: string, figures: Figure[]): Station => ({
    segment, title, main: rate(perSecond), unit, figures, flow: perSecond,
  });
  const figure = (label: string, value: string): Figure => ({ label, value });
  const waiting = (lag: string, done: number | null) => [
    figure('waiting', count(window.gauge(lag))),
    figure('in time', seconds(inTime(window.gauge(lag), done))),
  ];
  const streaming = window.gauge(names.IS_STREAMING);
  return [
    {
      title: 'Persist',
      from: 'what people send',
      stations: [
        per('gateway', 'Gateway', accepted, 'accepted/s', [
          figure('acknowledged, p95', p95(names.ACCEPT_SECONDS)),
          figure('refused/s', rise(names.REFUSALS)),
          figure('over a limit/s', rise(names.LIMITED)),
        ]),
        { ...per('commands', 'chat.commands', accepted, 'waiting', waiting(names.PERSISTER_LAG, persisted).slice(1)), main: count(window.gauge(names.PERSISTER_LAG)) },
        per('persister', 'Persister', persisted, 'commands/s', [
          figure('answered, p95', p95(names.DECIDE_SECONDS)),
          figure('dead letters open', count(window.peak(names.OPEN_DEAD_LETTERS))),
        ]),
        per('truth', 'PostgreSQL', persisted, 'rows/s', [
          figure('transaction, p95', p95(names.BATCH_SECONDS)),
          figure('tried again/s', rise(names.BATCH_RETRIES)),
          figure('answers from tables/s', rise(names.ANSWERS_FROM_TABLES)),
        ]),
      ],
    },
    {
      title: 'Publish',
      from: 'PostgreSQL’s WAL',
      stations: [
        { ...per('slot', 'Replication slot', rows, 'WAL kept', [figure('not confirmed', bytes(window.gauge(names.UNCONFIRMED)))]), main: bytes(walKept(window)) },
        per('cdc', 'CDC worker', rows, 'rows/s', [
          figure('from commit, p95', p95(names.ARRIVAL_SECONDS)),
          figure('streaming', streaming === null ? '–' : streaming > 0 ? 'yes' : 'no'),
          figure('failed/s', rise(names.FAILED_TRANSACTIONS)),
        ]),
        per('events', 'chat.events', rows, 'events/s', [figure('transaction, p95', p95(names.PUBLISH_SECONDS))]),
        { segment: 'registry', title: 'Schema registry', main: '', unit: 'asked at start and for new schemas', figures: [], flow: null },
      ],
    },
    {
      title: 'Deliver',
      from: 'chat.events',
      stations: [
        per('publisher', 'Publisher', published, 'events/s', [...waiting(names.PUBLISHER_LAG, published), figure('receipts/s', rise(names.RECEIPTS))]),
        per('redis', 'Redis', published, 'events/s', [figure('tried again/s', rise(names.PUBLISH_RETRIES)), figure('losses', count(window.rise(names.LOSSES) ?? 0))]),
        per('hub', 'Hubs', heard, 'events heard/s', [
          figure('from commit, p95', p95(names.EVENT_AGE)),
          figure('healed/s', rise(names.HEALED)),
          figure('chats followed', count(window.gauge(names.CHATS))),
        ]),
        per('sockets', 'Sockets', delivered, 'deliveries/s', [
          figure('connections', count(window.gauge(names.CONNECTIONS))),
          figure('queued', bytes(window.gauge(names.QUEUED_BYTES))),
          figure('too slow/s', rise(names.SLOW)),
        ]),
      ],
    },
    {
      title: 'Project',
      from: 'chat.events, chat.marks',
      stations: [
        per('projector', 'Projector', applied, 'records/s', [figure('waiting', count(sum(backlogsOf(window).filter(({ reader }) => isProjection(reader) && reader !== names.KEPT_BEHIND))))]),
        per('read', 'Read models', applied, 'records/s', []),
      ],
    },
    besideOf(window, flow),
  ];
}

/** What nobody who is connected waits for: telling who is away, and numbers about the history. */
function besideOf(window: Window, flow: (name: string) => number | null): Lane {
  const [decided, tried, operated, numbers] = [flow(names.DECISIONS), flow(names.TRIES), flow(names.OPERATED), flow(names.NUMBERS)];
  const station = (segment: Segment, title: string, perSecond: number | null, unit: string, figures: Record<string, string>): Station => ({
    segment, title, main: rate(perSecond), unit, flow: perSecond,
    figures: Object.entries(figures).map(([label, value]) => ({ label, value })),
  });
  const gauge = (name: string) => count(window.gauge(name));
  return {
    title: 'Beside it',
    from: 'chat.events, chat.cursors',
    stations: [
      station('notifier', 'Notifier', decided, 'decisions/s', {
        waiting: gauge(names.DECIDER_LAG),
        'to chat.notifications/s': rate(flow(names.NOTIFIED)),
        'not yet sent': count(window.peak(names.WAITING_TASKS)),
      }),
      station('providers', 'Push and mail', tried, 'calls/s', {
        'from event, p95': atMost(window.quantile(names.DELIVERY_SECONDS, 0.95)),
        'calls in vain, held back': gauge(names.OPEN_BREAKERS),
        'put aside': gauge(names.UNSENT),
      }),
      station('operators', 'Operators', operated, 'events/s', {
        waiting: gauge(names.OPERATORS_LAG),
        'in time': seconds(inTime(window.gauge(names.OPERATORS_LAG), operated)),
        'failed/s': rate(flow(names.NUMBERS_FAILED)),
      }),
      station('numbers', 'chat.activity, chat.abuse', numbers, 'rows/s', {
        'transaction, p95': atMost(window.quantile(names.NUMBERS_SECONDS, 0.95)),
        'too late': count(window.gauge(names.LATE, { outcome: 'dropped' })),
      }),
    ],
  };
}

/** A metric appears with its first value: until then it is 0 where the role runs that has it. */
function hasRole(window: Window, name: string): boolean {
  const prefix = /^waltalkie_([a-z]+)_/.exec(name)?.[1] ?? '';
  return window.before !== null && standingOf(window.now, prefix === 'fanout' ? 'hub' : prefix).runs;
}

const FIXED = ['persister', 'publisher', 'notifier', 'senders', 'operators'];
const isProjection = (reader: string) => !FIXED.includes(reader);
const sum = (backlogs: readonly Backlog[]) => backlogs.reduce((all, { total }) => all + total, 0);

/** Every reader of a topic with what waits for it. */
export function backlogsOf(window: Window): Backlog[] {
  const projections = window.namesBetween(names.PROJECTION_LAG.start, names.PROJECTION_LAG.end).map(({ name, between }) => ({ reader: between, name }));
  const readers = [
    { reader: 'persister', name: names.PERSISTER_LAG },
    { reader: 'publisher', name: names.PUBLISHER_LAG },
    ...projections,
    { reader: 'notifier', name: names.DECIDER_LAG },
    { reader: 'senders', name: names.INTAKE_LAG },
    { reader: 'operators', name: names.OPERATORS_LAG },
  ];
  return readers.flatMap(({ reader, name }) => {
    const all = window.partitions(name);
    return [...new Set(all.map(({ topic }) => topic))].map((topic) => {
      const partitions = all.filter((place) => place.topic === topic);
      return { reader, topic, partitions, total: partitions.reduce((total, { records }) => total + records, 0) };
    });
  });
}

export function projectionsOf(window: Window): ProjectionRow[] {
  return backlogsOf(window)
    .filter(({ reader }) => isProjection(reader))
    .map(({ reader, total }) => {
      // The inbox has two loops, and one name in what is counted.
      const where = { projection: reader.replace(/^(inbox)_.*/, '$1') };
      const perSecond = window.rate(names.APPLIED, where);
      const ages = window.now.processes.flatMap(({ metrics }) => metrics.lines(names.PROJECTION_AGE, where).map(({ value }) => value));
      return {
        name: reader,
        isKeptBehind: reader === names.KEPT_BEHIND,
        perSecond,
        waiting: total,
        waitingSeconds: inTime(total, perSecond),
        ageSeconds: ages.length > 0 ? Math.max(...ages) : null,
        poison: window.gauge(names.POISON, where) ?? 0,
      };
    });
}

/** How long what waits takes at the present rate; null if nothing goes. */
function inTime(waiting: number | null, perSecond: number | null): number | null {
  if (waiting === 0) return 0;
  return waiting === null || !perSecond ? null : waiting / perSecond;
}
