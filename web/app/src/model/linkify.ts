/** A piece of a body: plain text, or the address of a link. */
export interface Piece {
  text: string;
  href: string | null;
}

/** Ends at white space, quotes, and signs that can't be seen or that turn the direction of what follows. */
const ADDRESS = /\bhttps?:\/\/[^\s<>"'`\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]+/gi;

/**
 * Splits a body into text and links. Only `http` and `https` become links, and the text shown is always
 * the address itself, so that a link can't pretend to lead elsewhere; one with a name before an `@`, as in
 * `https://bank.example@evil.example`, stays text.
 */
export function linkify(body: string): Piece[] {
  const pieces: Piece[] = [];
  let end = 0;
  for (const match of body.matchAll(ADDRESS)) {
    const address = withoutTrailing(match[0]);
    if (!isWebAddress(address)) continue;
    if (match.index > end) pieces.push({ text: body.slice(end, match.index), href: null });
    pieces.push({ text: address, href: address });
    end = match.index + address.length;
  }
  if (end < body.length) pieces.push({ text: body.slice(end), href: null });
  return pieces;
}

/** Punctuation after an address belongs to the sentence, a closing bracket only if none was opened. */
function withoutTrailing(address: string): string {
  let rest = address.replace(/[.,;:!?…]+$/u, '');
  while (rest.endsWith(')') && count(rest, ')') > count(rest, '(')) rest = rest.slice(0, -1).replace(/[.,;:!?…]+$/u, '');
  return rest;
}

function count(text: string, sign: string): number {
  return text.split(sign).length - 1;
}

function isWebAddress(address: string): boolean {
  try {
    const { protocol, hostname, username, password } = new URL(address);
    return (protocol === 'http:' || protocol === 'https:') && hostname !== '' && username === '' && password === '';
  } catch {
    return false;
  }
}
