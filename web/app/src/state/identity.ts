/**
 * Who this tab is, in development: `/?as=alice` says so, and the tab's own storage remembers. Two tabs of
 * one browser can so be two people.
 */
const KEY = 'waltalkie.as';

/** The person of this tab, or `null` if nobody signed in. */
export function currentIdentity(): string | null {
  const asked = new URLSearchParams(location.search).get('as');
  if (asked) sessionStorage.setItem(KEY, asked);
  return asked ?? sessionStorage.getItem(KEY);
}

/** Where a tab of this person starts. */
export function addressOf(userId: string): string {
  return `/?as=${encodeURIComponent(userId)}`;
}

/** Signs this tab out. */
export function signOut(): void {
  sessionStorage.removeItem(KEY);
  location.assign('/');
}
