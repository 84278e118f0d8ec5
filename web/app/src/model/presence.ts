/** What is said of where a person is. Pure. */
import type { Presence } from '@waltalkie/client';
import { lastSeenText } from './times.ts';

/** Online, or when it last was so; empty if that isn't known. */
export function presenceText(presence: Presence | undefined, now: number): string {
  if (presence?.state === 'online') return 'online';
  return presence?.last_seen_at ? `last seen ${lastSeenText(Date.parse(presence.last_seen_at), now)}` : '';
}
