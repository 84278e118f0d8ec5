/**
 * A click subscribes the browser, which is then a device of its person. What the push service gets for it is the caller's to see.
 *
 * `SUBSCRIPTION`: what the push service gives. `STATE`: where the page's storage is kept for turn-off.test.mjs. The rest as for the others.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { base, launch, newPage } from '../e2e/browser.mjs';
import { openPanel, withPushNetwork } from './network.mjs';

const { SUBSCRIPTION, STATE } = process.env;

test('a browser that is switched on is a device of its person', async () => {
  const browser = await launch();
  try {
    const page = await newPage(browser, { permissions: ['notifications'] });
    await withPushNetwork(page, JSON.parse(SUBSCRIPTION));
    await page.goto(`${base}/?as=bob`);
    const panel = await openPanel(page);
    await panel.getByRole('button', { name: 'Turn on here' }).click();
    await panel.getByRole('button', { name: 'Turn off here' }).waitFor();
    await panel.getByTestId('device').filter({ hasText: 'This browser' }).waitFor();
    assert.equal(await panel.getByTestId('device').count(), 2);
    await page.context().storageState({ path: STATE });
    assert.deepEqual(page.problems, []);
  } finally {
    await browser.close();
  }
});
