/**
 * A push in a browser: the settings panel registers the service worker, what the push service decrypted is handed to it through the
 * debugging protocol (there is no push network in tests), it is shown, a click opens the chat, and reading takes it away.
 *
 * `PUSHED`: the JSON that the push service decrypted. `CHAT`, `SEQ`: where it was said. `WALTALKIE_URL`, `CHROMIUM`, `SCREENSHOTS` as for the others.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { base, launch, newPage } from '../e2e/browser.mjs';

const { PUSHED, CHAT, SCREENSHOTS } = process.env;
const pushed = JSON.parse(PUSHED ?? '{}');

test('what was pushed is shown by the service worker, opens the chat and goes once it is read', async () => {
  const browser = await launch();
  try {
    const page = await newPage(browser, { permissions: ['notifications'] });
    await page.goto(`${base}/?as=bob`);
    await page.getByRole('button', { name: 'Notifications' }).click();
    const panel = page.getByRole('dialog', { name: 'Notifications' });
    await panel.getByRole('button', { name: 'Turn on here' }).waitFor();
    assert.equal(await panel.getByTestId('device').count(), 1);
    if (SCREENSHOTS) await page.screenshot({ path: `${SCREENSHOTS}/notifications.png` });

    // Settings are kept.
    await panel.getByRole('checkbox', { name: 'Do not disturb' }).check();
    await panel.getByLabel('From').waitFor();
    await panel.getByRole('checkbox', { name: 'Do not disturb' }).uncheck();
    await panel.getByLabel('What notifications show').selectOption('sender_only');
    await panel.getByLabel('What notifications show').selectOption('full');
    await panel.getByRole('button', { name: 'Close' }).click();

    const session = await page.context().newCDPSession(page);
    const registered = new Promise((resolve) => {
      session.on('ServiceWorker.workerRegistrationUpdated', ({ registrations }) => {
        const one = registrations.find(({ isDeleted }) => !isDeleted);
        if (one) resolve(one.registrationId);
      });
    });
    await session.send('ServiceWorker.enable');
    const registrationId = await registered;
    await page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
    await session.send('ServiceWorker.deliverPushMessage', { origin: base, registrationId, data: PUSHED });

    const shown = () => page.evaluate(async () => {
      const registration = await navigator.serviceWorker.ready;
      return (await registration.getNotifications()).map(({ title, body, tag, data }) => ({ title, body, tag, data }));
    });
    const until = async (count) => {
      for (let i = 0; i < 400; i++) {
        const found = await shown();
        if (found.length === count) return found;
        await page.waitForTimeout(25);
      }
      throw new Error(`never ${count} notifications: ${JSON.stringify(await shown())}`);
    };
    const [notification] = await until(1);
    assert.equal(notification.tag, pushed.message_id);
    assert.equal(notification.title, pushed.title);
    assert.ok(notification.body.endsWith(pushed.body), notification.body);
    assert.equal(notification.data.chatId, CHAT);
    // The same one again takes its place.
    await session.send('ServiceWorker.deliverPushMessage', { origin: base, registrationId, data: PUSHED });
    await until(1);

    // A click opens the chat, where it is read, and with that it goes.
    const [worker] = page.context().serviceWorkers();
    await worker.evaluate(async () => {
      const [notification] = await self.registration.getNotifications();
      self.dispatchEvent(new NotificationEvent('notificationclick', { notification }));
    });
    await page.waitForURL((url) => url.hash === `#/chats/${encodeURIComponent(CHAT)}`);
    await page.getByText(pushed.body, { exact: true }).first().waitFor();
    await until(0);
    assert.deepEqual(page.problems, []);
  } finally {
    await browser.close();
  }
});
