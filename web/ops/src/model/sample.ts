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

export interface Sample {
  readonly atMs: number;
  readonly processes: readonly Process[];
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
  };
}
