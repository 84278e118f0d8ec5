/** Read models: whose version their rows are of, and how far a rebuild is. */
import { count, seconds } from './format.ts';
import type { ReadModel, Rebuild, Sample } from './sample.ts';

/** A rebuild tells each second. */
const STOPPED_AFTER_MS = 10_000;

export interface RebuildRow {
  /** Of a hundred; null while nobody knows how much there is. */
  readonly percent: number | null;
  readonly text: string;
  readonly isStopped: boolean;
}

export interface ModelRow {
  readonly name: string;
  readonly version: string;
  /** Its rows are of another version than the program's. */
  readonly isOther: boolean;
  readonly madeAnew: string;
  readonly rebuild: RebuildRow | null;
}

export function modelsOf(sample: Sample): ModelRow[] {
  return sample.models.map((model) => ({
    name: model.projection,
    ...versionOf(model),
    madeAnew: model.rebuilt_at_ms === null ? '–' : new Date(model.rebuilt_at_ms).toISOString().slice(0, 16).replace('T', ' '),
    rebuild: model.rebuild ? rebuildOf(model.projection, model.rebuild) : null,
  }));
}

function versionOf({ version, program_version }: ReadModel): { version: string; isOther: boolean } {
  const isOther = version !== null && program_version !== null && version !== program_version;
  return { version: `${version ?? '–'}${isOther ? `, program ${program_version}` : ''}`, isOther };
}

function rebuildOf(name: string, { phase, read, expected, silent_ms, running_ms }: Rebuild): RebuildRow {
  const percent = expected > 0 ? Math.min(100, Math.floor((100 * read) / expected)) : null;
  const done = `${count(read)} of ${count(expected)} records`;
  if (silent_ms > STOPPED_AFTER_MS) {
    return { percent, isStopped: true, text: `stopped at ${done}: waltalkie rebuild ${name} goes on` };
  }
  const left = expected > read && read > 0 ? `, ${seconds(((expected - read) / read) * (running_ms / 1000))} left` : '';
  return { percent, isStopped: false, text: `${phase || 'begins'}: ${done}${left}` };
}
