/** Between two samples: what went through, what waits, how long it took; over all processes that answered. */
import type { Labels, Line } from './metrics.ts';
import type { Process, Sample } from './sample.ts';

/** What waits in one partition. */
export interface PartitionLag {
  readonly topic: string;
  readonly partition: number;
  readonly records: number;
}

export class Window {
  readonly seconds: number;
  readonly #pairs: readonly { before: Process | undefined; now: Process }[];

  constructor(
    readonly before: Sample | null,
    readonly now: Sample,
  ) {
    this.seconds = before ? Math.max(0, (now.atMs - before.atMs) / 1000) : 0;
    const earlier = new Map(before?.processes.filter(({ answers }) => answers).map((process) => [process.address, process]));
    this.#pairs = now.processes.filter(({ answers }) => answers).map((process) => ({ before: earlier.get(process.address), now: process }));
  }

  /** A gauge, summed; null if nobody has it. */
  gauge(name: string, where?: Labels): number | null {
    return total(this.now, name, where);
  }

  /** The same gauge in the earlier sample. */
  gaugeBefore(name: string, where?: Labels): number | null {
    return this.before && total(this.before, name, where);
  }

  /** The highest value of a gauge that each process sees whole. */
  peak(name: string): number | null {
    const values = this.#pairs.flatMap(({ now }) => now.metrics.lines(name).map(({ value }) => value));
    return values.length === 0 ? null : Math.max(...values);
  }

  /** By how much a counter rose, or null if nobody has it or there is no earlier sample. */
  rise(name: string, where?: Labels): number | null {
    let risen: number | null = null;
    for (const { before, now } of this.#pairs) {
      if (!before) continue;
      for (const line of now.metrics.lines(name, where)) risen = (risen ?? 0) + riseOf(line, before, name);
    }
    return risen;
  }

  /** The same a second. */
  rate(name: string, where?: Labels): number | null {
    const risen = this.rise(name, where);
    return risen === null || this.seconds === 0 ? null : risen / this.seconds;
  }

  /** A quantile of what a histogram took in between, at its bucket's upper end; null if that was nothing. */
  quantile(name: string, share: number, where?: Labels): number | null {
    const buckets = new Map<number, number>();
    for (const { before, now } of this.#pairs) {
      if (!before) continue;
      for (const line of now.metrics.lines(`${name}_bucket`, where)) {
        const end = line.labels.le === '+Inf' ? Infinity : Number(line.labels.le);
        buckets.set(end, (buckets.get(end) ?? 0) + riseOf(line, before, `${name}_bucket`));
      }
    }
    const ends = [...buckets.keys()].sort((one, other) => one - other);
    const all = buckets.get(Infinity) ?? 0;
    if (all === 0) return null;
    return ends.find((end) => (buckets.get(end) ?? 0) >= all * share) ?? null;
  }

  /** What waits, by topic and partition. */
  partitions(name: string): PartitionLag[] {
    const places = new Map<string, PartitionLag>();
    for (const { now } of this.#pairs) {
      for (const { labels, value } of now.metrics.lines(name)) {
        const [topic, partition] = [labels.topic ?? '', Number(labels.partition ?? 0)];
        const key = `${topic} ${partition}`;
        places.set(key, { topic, partition, records: (places.get(key)?.records ?? 0) + value });
      }
    }
    return [...places.values()].sort((one, other) => one.topic.localeCompare(other.topic) || one.partition - other.partition);
  }

  /** Names that begin and end so, with what stands between. */
  namesBetween(start: string, end: string): { name: string; between: string }[] {
    const names = new Set(this.#pairs.flatMap(({ now }) => [...now.metrics.names()]));
    return [...names]
      .filter((name) => name.startsWith(start) && name.endsWith(end) && name.length > start.length + end.length)
      .map((name) => ({ name, between: name.slice(start.length, -end.length) }));
  }
}

function total(sample: Sample, name: string, where?: Labels): number | null {
  const values = sample.processes.filter(({ answers }) => answers).flatMap(({ metrics }) => metrics.lines(name, where));
  return values.length === 0 ? null : values.reduce((sum, { value }) => sum + value, 0);
}

/** A counter that appeared rose from nothing; one that fell began anew with its process. */
function riseOf(line: Line, before: Process, name: string): number {
  const same = before.metrics.lines(name, line.labels).find(({ labels }) => Object.keys(labels).length === Object.keys(line.labels).length);
  const from = same?.value ?? 0;
  return line.value >= from ? line.value - from : line.value;
}
