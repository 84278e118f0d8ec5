/** What a fault is, and what rules look at. */
import type { Problem } from '../problems.ts';
import type { Window } from '../window.ts';

/** Parts of the picture. */
export const SEGMENTS = [
  'gateway', 'commands', 'persister', 'truth', 'slot', 'cdc', 'events', 'registry', 'publisher', 'redis', 'hub', 'sockets', 'projector', 'read',
  'notifier', 'providers', 'operators', 'numbers',
] as const;
export type Segment = (typeof SEGMENTS)[number];

export interface Fault {
  readonly segments: readonly Segment[];
  /** Names the segment and, between backticks, the next command. */
  readonly sentence: string;
  /** Section of docs/runbook.md. */
  readonly runbook: string;
}

export interface View {
  readonly window: Window;
  readonly problems: readonly Problem[];
}

/** Says whether its fault is there. */
export type Rule = (view: View) => Fault | null;

/** The part that a role is drawn as; none for roles beside the way of a message. */
export function segmentsOf(role: string): Segment[] {
  return SEGMENTS.filter((segment) => segment === role);
}

/** On one line, and not too long for a sentence. */
export function shortened(text: string | null): string {
  const line = (text ?? 'no reason given').replaceAll('`', '’');
  return line.length > 140 ? `${line.slice(0, 139)}…` : line;
}
