/** The number on the application's icon, where it is installed. While no page is open, the service worker sets it by what is pushed. */

type Icon = Partial<Pick<Navigator, 'setAppBadge' | 'clearAppBadge'>>;

/** Shows how many messages are unread, and nothing of it where none is. */
export function showBadge(count: number, icon: Icon = navigator): void {
  const shown = count > 0 ? icon.setAppBadge?.(count) : icon.clearAppBadge?.();
  // Refused where there is no icon to show it on.
  shown?.catch(() => undefined);
}
