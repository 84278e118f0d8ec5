/** Times as people read them, in the browser's own zone and language. */

const clock = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const exact = new Intl.DateTimeFormat(undefined, {
  hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3, hour12: false,
});
const weekday = new Intl.DateTimeFormat(undefined, { weekday: 'long' });
const dayMonth = new Intl.DateTimeFormat(undefined, { weekday: 'short', day: 'numeric', month: 'long' });
const dayMonthYear = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'long', year: 'numeric' });
const short = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });

/** Days since an arbitrary day, in local time: equal for two times of one day, one apart for neighbours. */
export function dayNumber(ms: number): number {
  const date = new Date(ms);
  return Math.round(Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) / 86_400_000);
}

/** Hours and minutes. */
export function clockText(ms: number): string {
  return clock.format(ms);
}

/** To the millisecond. */
export function exactText(ms: number): string {
  return exact.format(ms);
}

/** What a day is called, seen from `now`: Today, Yesterday, a weekday, a date. */
export function dayText(ms: number, now: number): string {
  const ago = dayNumber(now) - dayNumber(ms);
  if (ago === 0) return 'Today';
  if (ago === 1) return 'Yesterday';
  if (ago > 1 && ago < 7) return weekday.format(ms);
  return new Date(ms).getFullYear() === new Date(now).getFullYear() ? dayMonth.format(ms) : dayMonthYear.format(ms);
}

/** The time of a chat's last message, as short as it can be. */
export function listText(ms: number, now: number): string {
  const ago = dayNumber(now) - dayNumber(ms);
  if (ago === 0) return clock.format(ms);
  if (ago === 1) return 'Yesterday';
  return short.format(ms);
}

/** When somebody was last seen, as the end of a sentence: minutes ago, then the time of a day, then the day. */
export function lastSeenText(ms: number, now: number): string {
  const minutes = Math.floor((now - ms) / 60_000);
  if (minutes < 1) return 'just now';
  if (minutes < 60) return `${minutes} min ago`;
  const ago = dayNumber(now) - dayNumber(ms);
  if (ago === 0) return `today at ${clock.format(ms)}`;
  if (ago === 1) return `yesterday at ${clock.format(ms)}`;
  return `on ${dayText(ms, now)}`;
}
