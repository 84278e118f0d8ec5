/** Names within sentences. Pure. */

const NAMED = 5;

/** A name of the other direction doesn't turn the sentence around it. */
export function isolated(name: string): string {
  return `\u2068${name}\u2069`;
}

/** Names one after the other, the first few of many. */
export function listed(names: string[]): string {
  const some = names.slice(0, NAMED).map(isolated).join(', ');
  return names.length > NAMED ? `${some} and ${names.length - NAMED} more` : some;
}
