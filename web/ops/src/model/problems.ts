/** From what roles say is in their way to what it is: a server that is away, a loop that has stopped, or something else. */
import { standingOf } from './roles.ts';
import type { RoleStatus, Sample } from './sample.ts';

export type Server = 'kafka' | 'postgres' | 'registry' | 'redis';

export type Cause =
  | { readonly kind: 'server'; readonly server: Server }
  /** The slot can't be streamed from any more. */
  | { readonly kind: 'slot' }
  /** A projection met something that it may not go past, or its rows are of another version or another log. */
  | {
      readonly kind: 'projection';
      readonly projection: string;
      readonly place: string | null;
      readonly another: 'version' | 'log' | null;
    }
  | { readonly kind: 'other' };

export interface Problem {
  readonly role: string;
  readonly address: string;
  readonly text: string;
  readonly cause: Cause;
}

/** What the processes that answer say is in the way, and what roles have ended with that nobody runs since. */
export function problemsOf(sample: Sample): Problem[] {
  return sample.processes.flatMap(({ address, answers, roles }) => {
    const said = roles.filter((status) => (answers ? !status.is_ready : isLastWord(sample, status)));
    const problems = said.flatMap(({ role, problem = '' }) =>
      partsOf(problem).filter(Boolean).map((text) => ({ role, address, text, cause: causeOf(text) })),
    );
    // A server that was away then needn't be now.
    return problems.filter(({ cause }) => answers || cause.kind === 'slot' || cause.kind === 'projection');
  });
}

/** Of a process that doesn't answer any more. */
function isLastWord(sample: Sample, { role, is_healthy }: RoleStatus): boolean {
  return !is_healthy && !standingOf(sample, role).runs;
}

/** A role of several loops names each with its problem: `cursor: …; Kafka: …`. */
function partsOf(problem: string): string[] {
  return problem.split(/; (?=[A-Za-z_-]+: )/);
}

export function causeOf(text: string): Cause {
  const stopped = /projection (\S+) (stopped|has)( offsets of the log)?(?:: the record in (\S+, partition \d+, offset \d+))?/.exec(text);
  if (stopped) {
    const another = stopped[2] === 'stopped' ? null : stopped[3] === undefined ? 'version' : 'log';
    return { kind: 'projection', projection: stopped[1] ?? '', place: stopped[4] ?? null, another };
  }
  if (/^slot \S+: /.test(text)) {
    return /it isn't there;|has given it up|it was made (anew|after rows)|it is confirmed up to/.test(text) ? { kind: 'slot' } : { kind: 'other' };
  }
  // These say themselves what is to be done, and no server is away.
  if (/`waltalkie (migrate|cdc handover)/.test(text)) return { kind: 'other' };
  if (/schema registry|schema of \S+ (isn't to be had|can't be read)/.test(text)) return { kind: 'server', server: 'registry' };
  if (/\bRedis\b/.test(text)) return { kind: 'server', server: 'redis' };
  if (/Kafka.*(doesn't answer|no connection|the connection to .* broke|committed nothing|transport failure|timed? ?out)/i.test(text)) {
    return { kind: 'server', server: 'kafka' };
  }
  if (/\bPostgres\b|replication connection|no connection to the database|ended the stream/.test(text) && !/Kafka/.test(text)) {
    return { kind: 'server', server: 'postgres' };
  }
  return { kind: 'other' };
}
