/**
 * The service worker: shows what is pushed, opens the chat on a click, takes away what was read. It gets the JSON that
 * docs/notifications.md describes, already decrypted by the browser.
 */
self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));

self.addEventListener('push', (event) => {
  const push = parsed(event.data);
  if (push !== null) event.waitUntil(show(push));
});

self.addEventListener('notificationclick', (event) => {
  event.notification.close();
  event.waitUntil(open(event.notification.data));
});

// The page says how far a chat was read, here or elsewhere.
self.addEventListener('message', (event) => {
  if (event.data?.type === 'read') event.waitUntil(clear(event.data.chatId, event.data.readSeq));
});

function parsed(data) {
  try {
    const push = data?.json();
    return push?.type === 'message' ? push : null;
  } catch {
    return null;
  }
}

async function show(push) {
  const { title, subtitle, body, tag, lang, chat_id: chatId, seq, link, timestamp, badge } = push;
  await self.registration.showNotification(title ?? 'Waltalkie', {
    body: subtitle ? `${subtitle}: ${body}` : body,
    tag,
    lang,
    timestamp,
    icon: '/favicon.svg',
    data: { chatId, seq, link },
  });
  // The page, when it is looked at again, sets its own number, or none.
  if (badge > 0) await self.navigator.setAppBadge?.(badge);
}

/** In a tab that is open, or a new one; never at another address than this application's. */
async function open({ chatId, link }) {
  const own = new URL(`/#/chats/${encodeURIComponent(chatId)}`, self.location.origin).href;
  const tabs = await self.clients.matchAll({ type: 'window', includeUncontrolled: true });
  const tab = tabs.find(({ visibilityState }) => visibilityState === 'visible') ?? tabs[0];
  if (tab !== undefined) {
    tab.postMessage({ type: 'open', chatId });
    await tab.focus();
    return;
  }
  await self.clients.openWindow(link?.startsWith(`${self.location.origin}/`) ? link : own);
}

async function clear(chatId, readSeq) {
  for (const notification of await self.registration.getNotifications()) {
    const { data } = notification;
    if (data?.chatId === chatId && data.seq <= readSeq) notification.close();
  }
}
