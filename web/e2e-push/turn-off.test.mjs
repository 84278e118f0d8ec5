/**
 * The browser of turn-on.test.mjs comes back: it knows that it is on. Devices are removed in the list, another one and then itself.
 *
 * The variables are those of turn-on.test.mjs.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { base, launch, newPage } from '../e2e/browser.mjs';
import { openPanel, withPushNetwork } from './network.mjs';

const { SUBSCRIPTION, STATE } = process.env;

test('devices are removed in the list, and this browser with its subscription', async () => {
  const browser = await launch();
  try {
    const page = await newPage(browser, { permissions: ['notifications'], storageState: STATE });
    await withPushNetwork(page, JSON.parse(SUBSCRIPTION));
    await page.goto(`${base}/?as=bob`);
    const panel = await openPanel(page);
    await panel.getByRole('button', { name: 'Turn off here' }).waitFor();
    const devices = panel.getByTestId('device');
    const own = devices.filter({ hasText: 'This browser' });
    const other = devices.filter({ hasNotText: 'This browser' });
    await other.getByRole('button', { name: /^Remove/ }).click();
    await other.waitFor({ state: 'detached' });
    assert.equal(await own.count(), 1);
    await own.getByRole('button', { name: /^Remove/ }).click();
    await own.waitFor({ state: 'detached' });
    await panel.getByRole('button', { name: 'Turn on here' }).waitFor();
    const subscription = await page.evaluate(async () => (await navigator.serviceWorker.ready).pushManager.getSubscription());
    assert.equal(subscription, null, 'the browser is not subscribed any more');
    assert.deepEqual(page.problems, []);
  } finally {
    await browser.close();
  }
});
