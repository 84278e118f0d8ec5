/**
 * Who this tab is, in development: `/?as=alice` says so, and the tab's own storage remembers. Two tabs of
 * one browser can so be two people.
 */
import { showBadge } from './badge.ts';

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

/** How long is waited for what is to be left in order. */
const LEAVING_MS = 3_000;

/** Signs this tab out, after `leave`, if that doesn't take long: whoever can't be reached mustn't keep anybody signed in. */
export async function signOut(leave: () => Promise<void>): Promise<void> {
  const late = new Promise<void>((resolve) => setTimeout(resolve, LEAVING_MS));
  await Promise.race([leave().catch(() => undefined), late]);
  sessionStorage.removeItem(KEY);
  // Last: what came meanwhile may have set it again.
  showBadge(0);
  location.assign('/');
}
