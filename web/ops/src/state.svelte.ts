/** Asks for samples, every two seconds for as long as the page is looked at, and keeps what is drawn of them. */
import { diagnose, type Diagnosis } from './model/diagnosis.ts';
import { modelsOf, type ModelRow } from './model/models.ts';
import { backlogsOf, lanesOf, projectionsOf, type Backlog, type Lane, type ProjectionRow } from './model/picture.ts';
import { sampleOf, type OpsData, type Sample } from './model/sample.ts';
import { Window } from './model/window.ts';

const EVERY_MS = 2_000;
const PATIENCE_MS = 5_000;
/** Five minutes. */
const KEPT = 150;

export interface Shown {
  readonly atMs: number;
  readonly diagnosis: Diagnosis;
  readonly lanes: readonly Lane[];
  readonly backlogs: readonly Backlog[];
  readonly projections: readonly ProjectionRow[];
  readonly processes: Sample['processes'];
  readonly models: readonly ModelRow[];
}

export class Watch {
  shown = $state.raw<Shown | null>(null);
  /** Why the page's own server says nothing. */
  silence = $state<string | null>(null);
  /** By segment, oldest first. */
  flows = $state.raw<Readonly<Record<string, readonly number[]>>>({});
  #before: Sample | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;

  start(): () => void {
    void this.#turn();
    return () => clearTimeout(this.#timer);
  }

  async #turn(): Promise<void> {
    if (!document.hidden) await this.#look();
    this.#timer = setTimeout(() => void this.#turn(), EVERY_MS);
  }

  async #look(): Promise<void> {
    try {
      const answer = await fetch('/ops/data.json', { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE_MS) });
      if (!answer.ok) throw new Error(`it answers ${answer.status}`);
      this.#take(sampleOf((await answer.json()) as OpsData));
      this.silence = null;
    } catch (error) {
      this.silence = error instanceof Error ? error.message : String(error);
    }
  }

  #take(now: Sample): void {
    // The server looks at most once a second, for all pages.
    if (this.#before && now.atMs <= this.#before.atMs) return;
    const window = new Window(this.#before, now);
    const lanes = lanesOf(window);
    this.shown = {
      atMs: now.atMs,
      diagnosis: diagnose(this.#before, now),
      lanes,
      backlogs: backlogsOf(window),
      projections: projectionsOf(window),
      processes: now.processes,
      models: modelsOf(now),
    };
    const stations = lanes.flatMap((lane) => lane.stations);
    this.flows = Object.fromEntries(stations.map(({ segment, flow }) => [segment, [...(this.flows[segment] ?? []), flow ?? 0].slice(-KEPT)]));
    this.#before = now;
  }
}
