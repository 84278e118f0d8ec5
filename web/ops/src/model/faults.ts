/** What can ail, in the order of causes: what stands first explains what comes after it. */
import { bytes, counted, rate } from './format.ts';
import * as names from './names.ts';
import { problemsOf, type Problem, type Server } from './problems.ts';
import { commandRoles, CORE, standingOf, type CoreRole } from './roles.ts';
import type { Window } from './window.ts';

/** Parts of the picture. */
export const SEGMENTS = [
  'gateway', 'commands', 'persister', 'truth', 'slot', 'cdc', 'events', 'registry', 'publisher', 'redis', 'hub', 'sockets', 'projector', 'read',
] as const;
export type Segment = (typeof SEGMENTS)[number];

export interface Fault {
  readonly segments: readonly Segment[];
  /** Names the segment and, between backticks, the next command. */
  readonly sentence: string;
  /** Section of docs/runbook.md. */
  readonly runbook: string;
}

/** WAL past this is piling up; `waltalkie cdc status` says the same. */
const WAL_LIMIT_BYTES = 4 * 1024 ** 3;
/** Fewer records than this are no backlog. */
const BACKLOG = 1_000;
/** A backlog that is worked off in this time is none. */
const BACKLOG_SECONDS = 30;

interface View {
  readonly window: Window;
  readonly problems: readonly Problem[];
}

const RULES: readonly ((view: View) => Fault | null)[] = [
  kafkaAway, postgresAway, registryAway, redisAway, slotLost, roleLost, projectionStopped, nobodyStreams, walPilesUp,
  overloaded, persisterBehind, publisherBehind, projectionBehind, deadLetters, processSilent, notReady,
];

/** The first that fits; null if nothing ails. */
export function faultOf(window: Window): Fault | null {
  const view = { window, problems: problemsOf(window.now) };
  for (const rule of RULES) {
    const fault = rule(view);
    if (fault) return fault;
  }
  return null;
}

function complaints(view: View, server: Server): Problem[] {
  return view.problems.filter(({ cause }) => cause.kind === 'server' && cause.server === server);
}

function kafkaAway(view: View): Fault | null {
  if (complaints(view, 'kafka').length === 0) return null;
  return {
    segments: ['commands', 'events'],
    sentence: 'Kafka doesn’t answer, so no message is accepted and none is published: run `waltalkie doctor`.',
    runbook: 'kafka-is-away',
  };
}

function postgresAway(view: View): Fault | null {
  const from = complaints(view, 'postgres');
  if (from.length === 0) return null;
  const isReadOnly = from.every(({ role }) => role === 'projector' || role === 'janitor');
  return isReadOnly
    ? {
        segments: ['read'],
        sentence: 'PostgreSQL doesn’t answer for the read models, so chat lists, unread counts and receipts stand still: run `waltalkie doctor`.',
        runbook: 'postgresql-is-away',
      }
    : {
        segments: ['truth', 'slot'],
        sentence: 'PostgreSQL doesn’t answer, so accepted messages wait in Kafka and nothing is persisted: run `waltalkie doctor`.',
        runbook: 'postgresql-is-away',
      };
}

function registryAway(view: View): Fault | null {
  const [first] = complaints(view, 'registry');
  if (!first) return null;
  return {
    segments: ['registry'],
    sentence: `The schema registry doesn’t answer, and the ${first.role === 'cdc' ? 'CDC worker' : first.role} waits for a schema: run \`waltalkie schemas check\`.`,
    runbook: 'the-schema-registry-is-away',
  };
}

function redisAway(view: View): Fault | null {
  const isRetried = (view.window.rise(names.PUBLISH_RETRIES) ?? 0) > 0;
  if (complaints(view, 'redis').length === 0 && !isRetried) return null;
  return {
    segments: ['redis'],
    sentence: 'Redis takes no events, so people see new messages only once a heartbeat: run `waltalkie doctor`.',
    runbook: 'redis-is-away',
  };
}

function slotLost(view: View): Fault | null {
  if (!view.problems.some(({ cause }) => cause.kind === 'slot')) return null;
  return {
    segments: ['slot'],
    sentence: 'The replication slot is lost, so nothing more is published: run `waltalkie cdc resnapshot --dry-run`.',
    runbook: 'the-replication-slot-is-lost',
  };
}

const LOST: Record<CoreRole, { title: string; effect: string; runbook: string }> = {
  gateway: { title: 'The gateway', effect: 'so nobody can connect', runbook: 'a-process-is-not-ready' },
  persister: { title: 'The persister', effect: 'so accepted messages wait in Kafka', runbook: 'the-persister-has-stopped' },
  cdc: { title: 'The CDC worker', effect: 'so nothing is published', runbook: 'no-cdc-worker-streams' },
  publisher: { title: 'The publisher', effect: 'so people see new messages only once a heartbeat', runbook: 'the-publisher-is-behind' },
  projector: { title: 'The projector', effect: 'so chat lists, unread counts and receipts stand still', runbook: 'a-projection-has-stopped' },
};

/** A role that ran and that nobody runs any more. */
function roleLost(view: View): Fault | null {
  const { now } = view.window;
  const lost = CORE.map((role) => ({ role, standing: standingOf(now, role) })).filter(({ standing }) => standing.isKnown && !standing.runs);
  const [first] = lost;
  if (!first?.standing.lost) return null;
  const { role, standing } = first;
  const { address, answers, problem } = standing.lost ?? { address: '', answers: false, problem: null };
  // A projector whose projection met a poison isn't healthy: that rule knows more.
  if (role === 'projector' && view.problems.some(({ cause }) => cause.kind === 'projection')) return null;
  const { title, effect, runbook } = LOST[role];
  const why = answers ? `has stopped at ${address} (${shortened(problem)})` : `has stopped: ${address} doesn’t answer`;
  const same = lost.filter(({ standing: other }) => other.lost?.address === address).map(({ role: other }) => other);
  const command = role === 'cdc' && answers ? 'waltalkie cdc status' : `waltalkie run ${same.join(' ')}`;
  return { segments: [segmentOf(role)], sentence: `${title} ${why}, ${effect}: run \`${command}\`.`, runbook };
}

function segmentOf(role: string): Segment {
  return (SEGMENTS as readonly string[]).includes(role) ? (role as Segment) : 'gateway';
}

function projectionStopped(view: View): Fault | null {
  const stopped = view.problems.map(({ cause }) => cause).find((cause) => cause.kind === 'projection');
  if (!stopped) return null;
  if (stopped.isAnother) {
    return {
      segments: ['projector'],
      sentence: `The projector’s ${stopped.projection} stands still before rows that another version or another log made: run \`waltalkie rebuild ${stopped.projection}\`.`,
      runbook: 'a-projection-has-stopped',
    };
  }
  const place = stopped.place ? ` at a record that it can’t use (${stopped.place})` : '';
  return {
    segments: ['projector'],
    sentence: `The projector’s ${stopped.projection} has stopped${place}, and its read model stands still: run \`waltalkie schemas check\`.`,
    runbook: 'a-projection-has-stopped',
  };
}

function nobodyStreams(view: View): Fault | null {
  const { window } = view;
  if (!standingOf(window.now, 'cdc').isKnown) return null;
  const streams = [window.gaugeBefore(names.IS_STREAMING), window.gauge(names.IS_STREAMING)];
  if (!window.before || streams.some((sum) => sum === null || sum > 0)) return null;
  const problem = view.problems.find(({ role }) => role === 'cdc')?.text;
  const why = problem ? `starts over (${shortened(problem)})` : 'stands by and none streams';
  return {
    segments: ['cdc'],
    sentence: `The CDC worker ${why}, so nothing is published: run \`waltalkie cdc status\`.`,
    runbook: 'no-cdc-worker-streams',
  };
}

function walPilesUp(view: View): Fault | null {
  const kept = walKept(view.window);
  if (kept === null || kept < WAL_LIMIT_BYTES) return null;
  return {
    segments: ['slot'],
    sentence: `The replication slot keeps ${bytes(kept)} of WAL on PostgreSQL’s disk: run \`waltalkie cdc status\`.`,
    runbook: 'wal-piles-up',
  };
}

/** As the worker that streams sees it; one that stands by may have an old figure. */
export function walKept(window: Window): number | null {
  for (const { answers, metrics } of window.now.processes) {
    const streams = metrics.lines(names.IS_STREAMING).some(({ value }) => value > 0);
    const [kept] = metrics.lines(names.WAL_RETAINED);
    if (answers && streams && kept) return kept.value;
  }
  return window.peak(names.WAL_RETAINED);
}

function overloaded(view: View): Fault | null {
  const { window } = view;
  const limited = window.rate(names.LIMITED, { limit: 'node' }) ?? 0;
  const refused = window.rate(names.REFUSALS, { code: 'overloaded' }) ?? 0;
  if (refused > 0) {
    const waiting = window.gauge(names.PERSISTER_LAG) ?? 0;
    const why = waiting > 0 ? ` while ${counted(waiting, 'command')} for the persister wait` : '';
    return {
      segments: ['gateway'],
      sentence: `The gateway refuses ${rate(refused)} sends a second as overloaded${why}: run \`waltalkie run persister\` on another machine.`,
      runbook: 'the-gateway-refuses-sends',
    };
  }
  if (limited === 0) return null;
  return {
    segments: ['gateway'],
    sentence: `The gateway refuses ${rate(limited)} commands a second over a node’s limit: run \`waltalkie run gateway\` on another machine.`,
    runbook: 'the-gateway-refuses-sends',
  };
}

/** What waits, if it is a backlog that doesn’t shrink fast enough. */
function backlog(window: Window, lag: string, done: number | null): number | null {
  const [before, now] = [window.gaugeBefore(lag), window.gauge(lag)];
  if (before === null || now === null || now < BACKLOG || now < before) return null;
  return now / (done ?? 0) > BACKLOG_SECONDS || now > before ? now : null;
}

function persisterBehind(view: View): Fault | null {
  const waiting = backlog(view.window, names.PERSISTER_LAG, view.window.rate(names.PERSISTED));
  if (waiting === null) return null;
  return {
    segments: ['persister'],
    sentence: `The persister is behind by ${counted(waiting, 'command')}, and senders wait: run \`waltalkie run persister\` on another machine.`,
    runbook: 'the-persister-is-behind',
  };
}

function publisherBehind(view: View): Fault | null {
  const waiting = backlog(view.window, names.PUBLISHER_LAG, view.window.rate(names.PUBLISHED));
  if (waiting === null) return null;
  return {
    segments: ['publisher'],
    sentence: `The publisher is behind by ${counted(waiting, 'event')}, so people see messages late: run \`waltalkie run publisher\` on another machine.`,
    runbook: 'the-publisher-is-behind',
  };
}

function projectionBehind(view: View): Fault | null {
  const { window } = view;
  for (const { name, between } of window.namesBetween(names.PROJECTION_LAG.start, names.PROJECTION_LAG.end)) {
    const waiting = between === names.KEPT_BEHIND ? null : backlog(window, name, window.rate(names.APPLIED, { projection: between }));
    if (waiting !== null) {
      return {
        segments: ['projector'],
        sentence: `The projector’s ${between} is behind by ${counted(waiting, 'record')}: run \`waltalkie run projector\` on another machine.`,
        runbook: 'a-projection-is-behind',
      };
    }
  }
  return null;
}

function deadLetters(view: View): Fault | null {
  const open = view.window.peak(names.OPEN_DEAD_LETTERS) ?? 0;
  if (open === 0) return null;
  return {
    segments: ['persister'],
    sentence: `The persister has put ${counted(open, 'command')} aside that nobody has settled: run \`waltalkie dlq list\`.`,
    runbook: 'dead-letters-are-open',
  };
}

function processSilent(view: View): Fault | null {
  const silent = view.window.now.processes.find(({ answers }) => !answers);
  if (!silent) return null;
  const roles = commandRoles(silent.roles);
  const [first] = roles;
  return {
    segments: [segmentOf(first ?? 'gateway')],
    sentence:
      first === undefined
        ? `The process at ${silent.address} doesn’t answer and never has: look at \`ops.peers\` with \`waltalkie config\`.`
        : `The process at ${silent.address} (${roles.join(', ')}) doesn’t answer, and others do its work: run \`waltalkie run ${roles.join(' ')}\` there.`,
    runbook: 'a-process-is-not-ready',
  };
}

/** A role with a problem of its own, or one that still isn't ready at the second look. */
function notReady(view: View): Fault | null {
  for (const { address, answers, roles } of view.window.now.processes) {
    const before = view.window.before?.processes.find((process) => process.address === address);
    for (const { role, is_ready, problem } of roles) {
      if (!answers || is_ready) continue;
      const wasReady = before?.roles.find((status) => status.role === role)?.is_ready ?? true;
      const isStarting = problem === undefined || /^(\S+: starting(; |$))+$/.test(problem);
      if (isStarting && wasReady) continue;
      return {
        segments: [segmentOf(role)],
        sentence: `The ${role} at ${address} isn’t ready (${shortened(problem ?? 'still starting')}): run \`waltalkie doctor\`.`,
        runbook: 'a-process-is-not-ready',
      };
    }
  }
  return null;
}

function shortened(text: string | null): string {
  const line = (text ?? 'no reason given').replaceAll('`', '’');
  return line.length > 140 ? `${line.slice(0, 139)}…` : line;
}

