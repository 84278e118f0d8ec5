/**
 * A push in a browser: the settings panel registers the service worker, what the push service decrypted is handed to it through the
 * debugging protocol (there is no push network in tests), it is shown, a click opens the chat, and reading takes it away.
 *
 * `PUSHED`: the JSON that the push service decrypted. `CHAT`, `SEQ`: where it was said. `WALTALKIE_URL`, `CHROMIUM`, `SCREENSHOTS` as for the others.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { base, kept, launch, newPage, seen } from '../e2e/browser.mjs';

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

    // Each setting is kept by the server, and shown as it is kept to a page that comes later.
    const box = (name) => panel.getByRole('checkbox', { name });
    const [shows, language] = [panel.getByLabel('What notifications show'), panel.getByLabel('Language')];
    const isCounted = (title) => /^\(\d+\) /.test(title);
    await seen(() => page.title(), isCounted);
    await box('In the title of this page').uncheck();
    await kept('bob', ({ in_app }) => !in_app);
    await seen(() => page.title(), (title) => !isCounted(title));
    await box('On my devices').uncheck();
    await kept('bob', ({ push }) => !push);
    await box('By mail, of what stays unread').check();
    await kept('bob', ({ email }) => email);
    await shows.selectOption('sender_only');
    await kept('bob', ({ content }) => content === 'sender_only');
    await language.selectOption('de');
    await kept('bob', (settings) => settings.language === 'de');
    await box('Do not disturb').check();
    await panel.getByLabel('From').fill('23:30');
    await kept('bob', ({ do_not_disturb }) => do_not_disturb?.from === '23:30' && do_not_disturb.to === '07:00');

    await page.reload();
    await page.getByRole('button', { name: 'Notifications' }).click();
    await shows.waitFor();
    const checked = ['In the title of this page', 'On my devices', 'By mail, of what stays unread', 'Do not disturb'].map((name) => box(name).isChecked());
    assert.deepEqual(await Promise.all(checked), [false, false, true, true]);
    const values = [shows, language, panel.getByLabel('From')].map((field) => field.inputValue());
    assert.deepEqual(await Promise.all(values), ['sender_only', 'de', '23:30']);

    for (const name of ['In the title of this page', 'On my devices']) await box(name).check();
    for (const name of ['By mail, of what stays unread', 'Do not disturb']) await box(name).uncheck();
    await shows.selectOption('full');
    await language.selectOption('en');
    await kept('bob', (settings) =>
      settings.in_app && settings.push && !settings.email && settings.do_not_disturb === null && settings.content === 'full' && settings.language === 'en');
    await seen(() => page.title(), isCounted);
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
