/** From two samples in a row to the state of each part of the picture, and what to do. Pure. */
import { SEGMENTS, type Fault, type Segment } from './faults/fault.ts';
import { faultOf } from './faults.ts';
import { problemsOf, type Server } from './problems.ts';
import { standingOf } from './roles.ts';
import type { Sample } from './sample.ts';
import { Window } from './window.ts';

/** `ailing`: named by the sentence. `hindered`: something there isn't as it should be. `unseen`: no process tells of it. */
export type State = 'well' | 'hindered' | 'ailing' | 'unseen';

export interface Diagnosis {
  readonly states: Readonly<Record<Segment, State>>;
  readonly fault: Fault | null;
}

const ROLE: Partial<Record<Segment, string>> = {
  gateway: 'gateway', persister: 'persister', cdc: 'cdc', publisher: 'publisher', hub: 'hub', sockets: 'hub', projector: 'projector',
  notifier: 'notifier', operators: 'operators',
};
const SERVER: Partial<Record<Segment, Server>> = {
  commands: 'kafka', truth: 'postgres', slot: 'postgres', events: 'kafka', registry: 'registry', redis: 'redis', read: 'postgres', numbers: 'kafka',
};
/** Whose word tells of what has no role of its own. */
const WITNESSES: Partial<Record<Segment, readonly string[]>> = {
  commands: ['persister'], truth: ['persister', 'hub', 'cdc'], slot: ['cdc'], events: ['cdc', 'projector', 'publisher'],
  registry: ['persister', 'cdc', 'projector'], redis: ['publisher'], read: ['projector'], providers: ['notifier'], numbers: ['operators'],
};

export function diagnose(before: Sample | null, now: Sample): Diagnosis {
  const fault = faultOf(new Window(before, now));
  const problems = problemsOf(now);
  const isReady = (role: string) => {
    const statuses = now.processes.flatMap(({ answers, roles }) => roles.filter((status) => status.role === role).map((status) => answers && status.is_ready));
    return statuses.every((ready) => ready);
  };
  const stateOf = (segment: Segment): State => {
    if (fault?.segments.includes(segment)) return 'ailing';
    const role = ROLE[segment];
    const roles = role === undefined ? (WITNESSES[segment] ?? []) : [role];
    if (role !== undefined && standingOf(now, role).isKnown) return isReady(role) ? 'well' : 'hindered';
    if (!roles.some((name) => standingOf(now, name).runs)) return 'unseen';
    const complained = problems.some(({ cause, role: by }) => cause.kind === 'server' && cause.server === SERVER[segment] && roles.includes(by));
    return complained ? 'hindered' : 'well';
  };
  const states = Object.fromEntries(SEGMENTS.map((segment) => [segment, stateOf(segment)])) as Record<Segment, State>;
  return { states, fault };
}
