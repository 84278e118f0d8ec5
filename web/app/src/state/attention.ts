/** Whether somebody looks at this page: it is seen, and they gave some sign of themselves within two minutes. */

const AWAY_AFTER_MS = 120_000;
const SIGNS = ['visibilitychange', 'pointerdown', 'pointermove', 'keydown', 'wheel'] as const;

/** Tells now and with each sign and change, the same more than once; gives what ends that. */
export function watchAttention(tell: (looks: boolean) => void): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const look = (): void => {
    clearTimeout(timer);
    const seen = document.visibilityState === 'visible';
    if (seen) timer = setTimeout(() => tell(false), AWAY_AFTER_MS);
    tell(seen);
  };
  for (const sign of SIGNS) document.addEventListener(sign, look, { passive: true });
  look();
  return () => {
    clearTimeout(timer);
    for (const sign of SIGNS) document.removeEventListener(sign, look);
  };
}
