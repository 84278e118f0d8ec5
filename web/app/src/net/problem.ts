import { WaltalkieError } from '@waltalkie/client';

/** What went wrong, as a person reads it. */
export function problemOf(error: unknown): string {
  return error instanceof WaltalkieError ? error.message : 'Something went wrong. Try again.';
}
