/** Figures as people read them. */

export function count(value: number | null): string {
  if (value === null) return '–';
  if (value >= 9_999_500) return `${(value / 1e6).toFixed(1)} M`;
  return Math.round(value).toLocaleString('en');
}

export function rate(value: number | null): string {
  if (value === null) return '–';
  if (value > 0 && value < 9.95) return value.toFixed(1);
  return count(value);
}

export function bytes(value: number | null): string {
  if (value === null) return '–';
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  let size = value;
  while (size >= 999.5 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${size < 9.95 && unit > 0 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

export function seconds(value: number | null): string {
  if (value === null) return '–';
  if (value === 0) return '0 s';
  if (value === Infinity) return '> 30 s';
  if (value < 0.995) return `${Number((value * 1000).toPrecision(2))} ms`;
  if (value < 99.5) return `${Number(value.toPrecision(2))} s`;
  if (value < 5_970) return `${Math.round(value / 60)} min`;
  return `${Math.round(value / 3600)} h`;
}

/** The upper end of a bucket. */
export function atMost(value: number | null): string {
  return value === null || value === Infinity ? seconds(value) : `≤ ${seconds(value)}`;
}

/** `one thing`, `2 things`. */
export function counted(value: number, one: string, many = `${one}s`): string {
  return value === 1 ? `1 ${one}` : `${count(value)} ${many}`;
}
