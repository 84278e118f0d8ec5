/** Names within sentences. Pure. */

const NAMED = 5;

/** A name of the other direction doesn't turn the sentence around it. */
export function isolated(name: string): string {
  return `\u2068${name}\u2069`;
}

/** Who is typing, as a line; empty if nobody is. */
export function typingText(names: string[]): string {
  const [one, two] = names.map(isolated);
  if (one === undefined) return '';
  if (two === undefined) return `${one} is typing…`;
  return names.length === 2 ? `${one} and ${two} are typing…` : 'Several people are typing…';
}

/** Names one after the other, the first few of many. */
export function listed(names: string[]): string {
  const some = names.slice(0, NAMED).map(isolated).join(', ');
  return names.length > NAMED ? `${some} and ${names.length - NAMED} more` : some;
}
