/** The open chat, kept in the address, so that Back works and a reload stays where it was. */
const PREFIX = '#/chats/';

function read(): string | null {
  if (!location.hash.startsWith(PREFIX)) return null;
  try {
    return decodeURIComponent(location.hash.slice(PREFIX.length)) || null;
  } catch {
    return null;
  }
}

class Route {
  chatId = $state<string | null>(read());

  constructor() {
    addEventListener('hashchange', () => (this.chatId = read()));
  }

  /** Opens a chat, or with `null` goes back to the list. */
  go(chatId: string | null): void {
    const hash = chatId === null ? '#/' : PREFIX + encodeURIComponent(chatId);
    if (location.hash !== hash) location.hash = hash;
  }
}

export const route = new Route();
