/** Who is named in a text: `@name`, `@user_id`, `@all`, as the notifier's `decide/mentions.rs` has it. Pure. */

/** Places of a text that are looked at. */
const MOST = 100;

function isOfAWord(char: string): boolean {
  return /[\p{Alphabetic}\p{N}_]/u.test(char);
}

/** What follows each `@`. One within a word, as in a mail address, names nobody. */
function tailsOf(text: string): string[] {
  const tails: string[] = [];
  let at = 0;
  let before = '';
  for (const char of text) {
    at += char.length;
    if (char === '@' && !isOfAWord(before)) tails.push(text.slice(at));
    if (tails.length === MOST) break;
    before = char;
  }
  return tails;
}

/** Whether a text begins with a name and the name ends there: a dot or hyphen ends it only if no word goes on after. */
function beginsWith(text: string, name: string): boolean {
  const wanted = [...name];
  // As many characters, and two more, of two units each at most.
  const found = [...text.slice(0, 2 * (wanted.length + 2))];
  if (wanted.some((char, at) => char.toLowerCase() !== found[at]?.toLowerCase())) return false;
  const [next = '', after = ''] = found.slice(wanted.length);
  return !isOfAWord(next) && !('.-:'.includes(next) && isOfAWord(after));
}

/** Whether a person is named, by id or by name, in any case. */
export function isNamed(text: string, { id, name }: { id: string; name: string }): boolean {
  const names = [id, name.trim()].filter((one) => one !== '');
  return tailsOf(text).some((tail) => names.some((one) => beginsWith(tail, one)));
}

/** Whether `@all` is in it. Whose `@all` counts is decided elsewhere. */
export function namesAll(text: string): boolean {
  return tailsOf(text).some((tail) => beginsWith(tail, 'all'));
}
