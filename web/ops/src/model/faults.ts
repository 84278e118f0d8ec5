/** What can ail, in the order of causes: what stands first explains what comes after it. */
import {
  deadLetters, notifierBehind, operatorsBehind, overloaded, persisterBehind, projectionBehind, providerAway, publisherBehind,
} from './faults/backlogs.ts';
import type { Fault, Rule } from './faults/fault.ts';
import { noEvent, nobodyStreams, slotLost, walPilesUp } from './faults/history.ts';
import { notReady, processSilent, projectionStopped, roleLost } from './faults/processes.ts';
import { kafkaAway, postgresAway, redisAway, registryAway } from './faults/servers.ts';
import { problemsOf } from './problems.ts';
import type { Window } from './window.ts';

const RULES: readonly Rule[] = [
  kafkaAway, postgresAway, registryAway, redisAway, slotLost, roleLost, projectionStopped, nobodyStreams, walPilesUp,
  overloaded, persisterBehind, publisherBehind, projectionBehind, notifierBehind, providerAway,
  operatorsBehind, deadLetters, noEvent, processSilent, notReady,
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
