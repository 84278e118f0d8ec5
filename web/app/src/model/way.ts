/** The real way of a message, step by step, for the details panel. Pure. */
import type { Delivery, Message, Trail } from '@waltalkie/client';

export interface Step {
  label: string;
  /** Where it is then: `seq`, LSN, partition and offset, who. */
  facts: [name: string, value: string][];
  /** Epoch milliseconds, or `null` if this client doesn't know. */
  atMs: number | null;
  /** Milliseconds since the first step that is known. */
  sinceMs: number | null;
}

/**
 * Lists the steps in the order in which they happened; one without a time stays after the one before it.
 *
 * Times of this client and of the servers come from two clocks; on one machine, as in development, they
 * are one, elsewhere the differences between them say little.
 */
export function wayOf(
  message: Message | undefined,
  trail: Trail | undefined,
  deliveries: readonly Delivery[],
  nameOf: (userId: string) => string,
): Step[] {
  const seq = message?.message_seq ?? trail?.seq;
  const way = message?.way;
  const step = (label: string, atMs: number | null | undefined, facts: [string, string | number | null | undefined][] = []): Step => ({
    label,
    facts: facts.filter(([, value]) => value !== undefined && value !== null).map(([name, value]) => [name, String(value)]),
    atMs: atMs ?? null,
    sinceMs: null,
  });
  const steps: Step[] = [];
  if (trail) {
    steps.push(step('Sent', trail.sent_ms));
    steps.push(step('Accepted', trail.accepted_ms, [['in', trail.accepted_ms ? 'Kafka, all replicas' : null]]));
  }
  steps.push(step('Committed', parse(way?.occurred_at) ?? parse(message?.created_at), [['seq', seq], ['LSN', way?.commit_lsn], ['ordinal', way?.ordinal]]));
  if (trail) steps.push(step('Persisted, answered', trail.persisted_ms, [['seq', trail.seq]]));
  steps.push(step('Published', parse(way?.relayed_at), [['partition', way?.partition], ['offset', way?.offset]]));
  steps.push(step('Received here', message?.received_ms, [['from', message && message.received_ms === undefined ? 'history' : null]]));
  for (const [userId, delivery] of firstDeliveries(deliveries, seq)) {
    steps.push(step('Delivered', delivery.at_ms, [['to', nameOf(userId)]]));
  }
  return inOrder(steps);
}

function inOrder(steps: Step[]): Step[] {
  let reached = Number.NEGATIVE_INFINITY;
  const placed = steps.map((step) => ({ step, at: (reached = step.atMs ?? reached) }));
  placed.sort((a, b) => (a.at === b.at ? 0 : a.at - b.at));
  const start = placed.find(({ step }) => step.atMs !== null)?.step.atMs ?? null;
  return placed.map(({ step }) => (step.atMs === null || start === null ? step : { ...step, sinceMs: step.atMs - start }));
}

function firstDeliveries(deliveries: readonly Delivery[], seq: number | undefined): Map<string, Delivery> {
  const first = new Map<string, Delivery>();
  if (seq === undefined) return first;
  for (const delivery of deliveries) {
    if (delivery.delivered_seq >= seq && !first.has(delivery.user_id)) first.set(delivery.user_id, delivery);
  }
  return first;
}

function parse(time: string | undefined): number | null {
  const ms = time === undefined ? Number.NaN : Date.parse(time);
  return Number.isNaN(ms) ? null : ms;
}
