import assert from 'node:assert/strict';
import { test } from 'node:test';
import { showBadge } from '../src/state/badge.ts';

test('the badge shows what is unread, and goes where nothing is', () => {
  const shown: (number | undefined)[] = [];
  const icon = {
    setAppBadge: async (count?: number) => void shown.push(count),
    clearAppBadge: async () => void shown.push(0),
  };
  for (const count of [3, 1, 0]) showBadge(count, icon);
  assert.deepEqual(shown, [3, 1, 0]);
});

test('a browser that has no badge, or refuses it, is no error', async () => {
  showBadge(1, {});
  showBadge(0, {});
  const refuse = () => Promise.reject(new Error('not installed'));
  // An unhandled rejection would fail the test.
  showBadge(1, { setAppBadge: refuse });
  showBadge(0, { clearAppBadge: refuse });
  await new Promise((resolve) => setImmediate(resolve));
});
