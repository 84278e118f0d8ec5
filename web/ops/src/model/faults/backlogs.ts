/** More than is worked off: refusals, what waits, what was put aside. */
import { counted, rate } from '../format.ts';
import * as names from '../names.ts';
import type { Window } from '../window.ts';
import type { Fault, View } from './fault.ts';

/** Fewer records than this are no backlog. */
const BACKLOG = 1_000;
/** A backlog that is worked off in this time is none. */
const BACKLOG_SECONDS = 30;

export function overloaded(view: View): Fault | null {
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

export function persisterBehind(view: View): Fault | null {
  const waiting = backlog(view.window, names.PERSISTER_LAG, view.window.rate(names.PERSISTED));
  if (waiting === null) return null;
  return {
    segments: ['persister'],
    sentence: `The persister is behind by ${counted(waiting, 'command')}, and senders wait: run \`waltalkie run persister\` on another machine.`,
    runbook: 'the-persister-is-behind',
  };
}

export function publisherBehind(view: View): Fault | null {
  const waiting = backlog(view.window, names.PUBLISHER_LAG, view.window.rate(names.PUBLISHED));
  if (waiting === null) return null;
  return {
    segments: ['publisher'],
    sentence: `The publisher is behind by ${counted(waiting, 'event')}, so people see messages late: run \`waltalkie run publisher\` on another machine.`,
    runbook: 'the-publisher-is-behind',
  };
}

export function projectionBehind(view: View): Fault | null {
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

export function notifierBehind(view: View): Fault | null {
  const { window } = view;
  const read = backlog(window, names.DECIDER_LAG, null) ?? backlog(window, names.INTAKE_LAG, null);
  if (read === null) return null;
  return {
    segments: ['notifier'],
    sentence: `The notifier is behind by ${counted(read, 'record')}, so people who are away are told late: run \`waltalkie run notifier\` on another machine.`,
    runbook: 'the-notifier-is-behind',
  };
}

export function providerAway(view: View): Fault | null {
  const open = view.window.peak(names.OPEN_BREAKERS) ?? 0;
  if (open === 0) return null;
  const waiting = view.window.peak(names.WAITING_TASKS) ?? 0;
  return {
    segments: ['providers'],
    sentence: `The notifier calls ${counted(open, 'provider')} in vain again and again, and ${counted(waiting, 'notification')} wait: run \`waltalkie doctor\`.`,
    runbook: 'a-provider-is-away',
  };
}

export function operatorsBehind(view: View): Fault | null {
  const waiting = backlog(view.window, names.OPERATORS_LAG, view.window.rate(names.OPERATED));
  if (waiting === null) return null;
  return {
    segments: ['operators'],
    sentence: `The role operators is behind by ${counted(waiting, 'event')}: run \`waltalkie run operators\` on another machine.`,
    runbook: 'stream-operators-are-behind',
  };
}

export function deadLetters(view: View): Fault | null {
  const open = view.window.peak(names.OPEN_DEAD_LETTERS) ?? 0;
  if (open === 0) return null;
  return {
    segments: ['persister'],
    sentence: `The persister has put ${counted(open, 'command')} aside that nobody has settled: run \`waltalkie dlq list\`.`,
    runbook: 'dead-letters-are-open',
  };
}
