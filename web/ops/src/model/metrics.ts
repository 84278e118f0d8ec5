/** Prometheus' text format, as far as `/metrics` uses it. */

export type Labels = Readonly<Record<string, string>>;

export interface Line {
  readonly labels: Labels;
  readonly value: number;
}

const LINE = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/;
const LABEL = /([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"/g;

/** One process' figures at one moment. */
export class Metrics {
  readonly #lines = new Map<string, Line[]>();

  constructor(text: string) {
    for (const line of text.split('\n')) {
      const [, name, labels, figure] = LINE.exec(line) ?? [];
      const value = numberOf(figure);
      if (name === undefined || value === null) continue;
      const lines = this.#lines.get(name);
      const entry = { labels: labelsOf(labels ?? ''), value };
      if (lines) lines.push(entry);
      else this.#lines.set(name, [entry]);
    }
  }

  names(): Iterable<string> {
    return this.#lines.keys();
  }

  /** The lines of a name that have these labels. */
  lines(name: string, where: Labels = {}): readonly Line[] {
    const wanted = Object.entries(where);
    const lines = this.#lines.get(name) ?? [];
    return wanted.length === 0 ? lines : lines.filter(({ labels }) => wanted.every(([key, value]) => labels[key] === value));
  }
}

function labelsOf(text: string): Labels {
  const labels: Record<string, string> = {};
  for (const [, key, value] of text.matchAll(LABEL)) {
    if (key !== undefined && value !== undefined) labels[key] = value.replace(/\\(.)/g, (_, sign: string) => (sign === 'n' ? '\n' : sign));
  }
  return labels;
}

function numberOf(text: string | undefined): number | null {
  if (text === undefined) return null;
  if (text === '+Inf') return Infinity;
  const value = Number(text);
  return Number.isNaN(value) ? null : value;
}
