/** What stands for a push network: browsers have none in tests, so that a page is given the subscription that the fake push service made. */

/**
 * From the next page on, subscribing gives this subscription, if it is asked for with the server's key as browsers want it. It is
 * remembered like a browser's, with the page's storage.
 */
export function withPushNetwork(page, subscription) {
  return page.context().addInitScript(({ endpoint, p256dh, auth, server_key }) => {
    const KEPT = 'test.subscribed';
    const own = {
      endpoint,
      toJSON: () => ({ endpoint, expirationTime: null, keys: { p256dh, auth } }),
      unsubscribe: async () => (localStorage.removeItem(KEPT), true),
    };
    PushManager.prototype.subscribe = async ({ userVisibleOnly, applicationServerKey }) => {
      const key = btoa(String.fromCharCode(...applicationServerKey)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
      if (!userVisibleOnly || key !== server_key) throw new DOMException(`not with ${key}`, 'InvalidAccessError');
      localStorage.setItem(KEPT, endpoint);
      return own;
    };
    PushManager.prototype.getSubscription = async () => (localStorage.getItem(KEPT) === endpoint ? own : null);
  }, subscription);
}

/** The panel of the page's settings. */
export async function openPanel(page) {
  await page.getByRole('button', { name: 'Notifications' }).click();
  return page.getByRole('dialog', { name: 'Notifications' });
}
