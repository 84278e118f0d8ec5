/** From the tables to `chat.events`: slot and CDC worker. */
import { bytes } from '../format.ts';
import * as names from '../names.ts';
import { standingOf } from '../roles.ts';
import type { Window } from '../window.ts';
import { shortened, type Fault, type View } from './fault.ts';

/** WAL past this is piling up; `waltalkie cdc status` says the same. */
const WAL_LIMIT_BYTES = 4 * 1024 ** 3;

export function slotLost(view: View): Fault | null {
  if (!view.problems.some(({ cause }) => cause.kind === 'slot')) return null;
  return {
    segments: ['slot'],
    sentence: 'The replication slot is lost, so nothing more is published: run `waltalkie cdc resnapshot --dry-run`.',
    runbook: 'the-replication-slot-is-lost',
  };
}

export function nobodyStreams(view: View): Fault | null {
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

export function walPilesUp(view: View): Fault | null {
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

/** How long a record that was put aside is told of, whether or not somebody has settled it. */
const TOLD_SECONDS = 3_600;

export function noEvent(view: View): Fault | null {
  const { window } = view;
  const at = Math.max(...[names.PROJECTOR_PUT_ASIDE_AT, names.OPERATORS_PUT_ASIDE_AT].map((name) => window.peak(name) ?? 0));
  if (at < window.now.atMs / 1_000 - TOLD_SECONDS) return null;
  return {
    segments: ['events'],
    sentence: 'Something in chat.events is no event and was put aside within the last hour: run `waltalkie dlq list --topic events`.',
    runbook: 'something-in-the-history-is-no-event',
  };
}
