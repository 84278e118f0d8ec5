/** What `/ops/data.json` says: every process that is known here, at one moment. */
import { Metrics } from './metrics.ts';

/** One role of a process, as `/readyz` tells it. */
export interface RoleStatus {
  readonly role: string;
  readonly is_healthy: boolean;
  readonly is_ready: boolean;
  readonly problem?: string;
}

export interface Process {
  readonly address: string;
  /** Whether it answered. */
  readonly answers: boolean;
  /** Why it didn't. */
  readonly silence: string | null;
  /** As of its last answer. */
  readonly roles: readonly RoleStatus[];
  readonly metrics: Metrics;
}

/** A read model, as the read database has it. */
export interface ReadModel {
  readonly projection: string;
  /** Of its rows. */
  readonly version: number | null;
  /** That this program makes; null of a projection that isn't its own. */
  readonly program_version: number | null;
  readonly rebuilt_at_ms: number | null;
  readonly rebuild: Rebuild | null;
}

/** A rebuild that isn't swapped in. */
export interface Rebuild {
  readonly version: number;
  readonly phase: string;
  readonly read: number;
  readonly expected: number;
  /** Since it told last. */
  readonly silent_ms: number;
  readonly running_ms: number;
}

export interface Sample {
  readonly atMs: number;
  readonly processes: readonly Process[];
  readonly models: readonly ReadModel[];
}

/** The shape on the wire. */
export interface OpsData {
  at_ms: number;
  processes: {
    address: string;
    /** Absent from a process that doesn't answer. */
    metrics?: string;
    /** Of a process that doesn't answer, the last that it said. */
    readyz?: { roles: RoleStatus[] } | null;
    problem?: string;
  }[];
  /** Null where the read database isn't known or doesn't say. */
  models?: ReadModel[] | null;
}

export function sampleOf(data: OpsData): Sample {
  return {
    atMs: data.at_ms,
    processes: data.processes.map(({ address, metrics, readyz, problem }) => ({
      address,
      answers: metrics !== undefined,
      silence: problem ?? null,
      roles: readyz?.roles ?? [],
      metrics: new Metrics(metrics ?? ''),
    })),
    models: data.models ?? [],
  };
}
