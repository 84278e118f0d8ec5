/** Which roles there are, and who runs them. */
import type { RoleStatus, Sample } from './sample.ts';

/** Those that the page draws, in the order of a message's way; what is beside it comes last. */
export const DRAWN = ['gateway', 'persister', 'cdc', 'publisher', 'projector', 'notifier', 'operators'] as const;
export type DrawnRole = (typeof DRAWN)[number];

export interface Standing {
  /** Some process that answers runs it, and its loop turns. */
  readonly runs: boolean;
  /** Some process runs it or ran it when it last answered. */
  readonly isKnown: boolean;
  /** The process that ran it: its loop has ended, as it says or said last, or the process doesn't answer. */
  readonly lost: { readonly address: string; readonly hasEnded: boolean; readonly problem: string | null } | null;
}

export function standingOf(sample: Sample, role: string): Standing {
  const has = (roles: readonly RoleStatus[]) => roles.find((status) => status.role === role);
  const holders = sample.processes.flatMap((process) => {
    const status = has(process.roles);
    return status ? [{ process, status }] : [];
  });
  const runs = holders.some(({ process, status }) => process.answers && status.is_healthy);
  const lost = holders.find(({ process, status }) => !process.answers || !status.is_healthy);
  return {
    runs,
    isKnown: holders.length > 0,
    lost: lost ? { address: lost.process.address, hasEnded: !lost.status.is_healthy, problem: lost.status.problem ?? null } : null,
  };
}

/** What `waltalkie run` calls them; the hub is a part of the gateway. */
export function commandRoles(roles: readonly RoleStatus[]): string[] {
  return roles.map(({ role }) => role).filter((role) => role !== 'hub');
}
