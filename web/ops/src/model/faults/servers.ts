/** Servers that are away, as the roles that need them say. */
import * as names from '../names.ts';
import type { Problem, Server } from '../problems.ts';
import type { Fault, View } from './fault.ts';

/** Roles whose name isn't what they are called. */
const WAITER: Record<string, string> = { cdc: 'CDC worker', operators: 'role operators' };

function complaints(view: View, server: Server): Problem[] {
  return view.problems.filter(({ cause }) => cause.kind === 'server' && cause.server === server);
}

export function kafkaAway(view: View): Fault | null {
  if (complaints(view, 'kafka').length === 0) return null;
  return {
    segments: ['commands', 'events'],
    sentence: 'Kafka doesn’t answer, so no message is accepted and none is published: run `waltalkie doctor`.',
    runbook: 'kafka-is-away',
  };
}

export function postgresAway(view: View): Fault | null {
  const from = complaints(view, 'postgres');
  if (from.length === 0) return null;
  const isReadOnly = from.every(({ role }) => ['projector', 'notifier', 'janitor'].includes(role));
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

export function registryAway(view: View): Fault | null {
  const [first] = complaints(view, 'registry');
  if (!first) return null;
  return {
    segments: ['registry'],
    sentence: `The schema registry doesn’t answer, and the ${WAITER[first.role] ?? first.role} waits for a schema: run \`waltalkie schemas check\`.`,
    runbook: 'the-schema-registry-is-away',
  };
}

export function redisAway(view: View): Fault | null {
  const isRetried = (view.window.rise(names.PUBLISH_RETRIES) ?? 0) > 0;
  if (complaints(view, 'redis').length === 0 && !isRetried) return null;
  return {
    segments: ['redis'],
    sentence: 'Redis takes no events, so people see new messages only once a heartbeat: run `waltalkie doctor`.',
    runbook: 'redis-is-away',
  };
}
