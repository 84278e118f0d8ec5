/** Do-not-disturb hours, on the clocks of the zone that was chosen, whatever the browser's is. Pure. */
import type { DoNotDisturb } from '@waltalkie/client';

/** `HH:MM` on the clocks of a zone; `null` for one that this browser doesn't know. */
function clockOf(zone: string, nowMs: number): string | null {
  try {
    // PostgreSQL's spelling, too.
    const timeZone = zone.replace(/^posix\//, '');
    return new Intl.DateTimeFormat('en-GB', { timeZone, hour: '2-digit', minute: '2-digit', hourCycle: 'h23' }).format(nowMs);
  } catch {
    return null;
  }
}

/** Whether a time, in milliseconds since 1970, falls into the hours. */
export function isQuiet(hours: DoNotDisturb | null, nowMs: number): boolean {
  const now = hours && clockOf(hours.time_zone, nowMs);
  if (!hours || now === null) return false;
  const { from, to } = hours;
  return from < to ? from <= now && now < to : from <= now || now < to;
}
