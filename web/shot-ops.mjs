import { chromium } from 'playwright-core';
const b = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--headless', '--no-sandbox', '--disable-gpu'] });
for (const [port, mode] of [[9101, 'well'], [9102, 'redis'], [9103, 'silent']]) {
  for (const [scheme, width] of [['light', 1280], ['dark', 1280], ['light', 400], ['dark', 400]]) {
    if (mode === 'silent' && scheme === 'dark') continue;
    const c = await b.newContext({ viewport: { width, height: 860 }, colorScheme: scheme });
    const p = await c.newPage();
    p.on('pageerror', (e) => console.log(mode, 'ERR', e.message)); p.on('console', (m) => m.type() === 'error' && console.log(mode, m.text()));
    await p.goto(`http://127.0.0.1:${port}/ops`);
    await p.waitForTimeout(7000);
    console.log(mode, scheme, width, await p.locator('[data-testid=verdict]').innerText(), await p.evaluate(() => [document.documentElement.scrollWidth, innerWidth]));
    await p.screenshot({ path: `/tmp/shots-ops/${mode}-${scheme}-${width}.png`, fullPage: true });
    await c.close();
  }
}
await b.close();
