/**
 * Eyes on the pipeline page: a headless browser that writes what the page shows, one JSON line each time that it changes, and does
 * what it reads, one line each. The test that holds them breaks things meanwhile.
 *
 * OPS_URL   where the page is
 * CHROMIUM, SCREENSHOTS   as in `e2e/`
 *
 * `look NAME` tells what axe-core finds and whether the page is wider than the window, at 1280 and 400 pixels, light and dark, and
 * keeps pictures.
 */
import { createInterface } from 'node:readline';
import { launch, newPage, picture, violations } from '../e2e/browser.mjs';

const EVERY_MS = 250;
const tell = (report) => process.stdout.write(`${JSON.stringify(report)}\n`);

/** The verdict, and each station's state and flow. */
const shown = (page) =>
  page.evaluate(() => ({
    verdict: document.querySelector('[data-testid=verdict]')?.dataset.kind ?? null,
    sentence: document.querySelector('[data-testid=sentence]')?.textContent ?? null,
    command: document.querySelector('[data-testid=sentence] code')?.textContent ?? null,
    runbook: document.querySelector('[data-testid=verdict] a')?.getAttribute('href') ?? null,
    models: Object.fromEntries([...document.querySelectorAll('[data-testid=model]')].map(({ dataset }) => [dataset.name, { version: dataset.version, rebuild: dataset.rebuild }])),
    processes: document.querySelectorAll('[data-testid=process]').length,
    states: Object.fromEntries([...document.querySelectorAll('[data-testid=station]')].map(({ dataset }) => [dataset.segment, dataset.state])),
    flows: Object.fromEntries([...document.querySelectorAll('[data-testid=station]')].map(({ dataset }) => [dataset.segment, Number(dataset.flow)])),
  }));

const browser = await launch();
const page = await newPage(browser);
const refused = [];
page.on('console', (message) => message.type() === 'error' && refused.push(message.text()));
await page.goto(`${process.env.OPS_URL}/ops`);

async function look(name) {
  const found = [];
  for (const [width, colorScheme] of [[1280, 'light'], [1280, 'dark'], [400, 'light'], [400, 'dark']]) {
    await page.setViewportSize({ width, height: 860 });
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    const excess = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    if (excess > 0) found.push(`${width} pixels, ${colorScheme}: wider than the window by ${excess}`);
    found.push(...(await violations(page)).map((violation) => `${width} pixels, ${colorScheme}: ${violation}`));
    await picture(page, `ops-${name}-${width}-${colorScheme}`);
  }
  tell({ looked: name, found: [...found, ...page.problems, ...refused] });
}

let last = '';
let number = 0;
const wishes = [];
createInterface({ input: process.stdin }).on('line', (line) => wishes.push(line));
let isOver = false;
process.stdin.on('end', () => (isOver = true));
while (!isOver) {
  const [verb, name] = wishes.shift()?.split(' ') ?? [];
  if (verb === 'look') await look(name);
  const now = await shown(page);
  const text = JSON.stringify(now);
  if (text !== last) {
    number += 1;
    tell({ number, ...now });
  }
  last = text;
  await page.waitForTimeout(EVERY_MS);
}
await browser.close();
