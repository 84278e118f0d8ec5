/**
 * A digest's HTML part as people see it: broad and narrow, light and dark. What can be measured is; pictures are kept for eyes.
 *
 * `MAIL`: a file with the HTML part. `EXPECTED`: JSON with `chats` (`name`, `link`), `texts`, `home` and `unsubscribe`. `CHROMIUM`,
 * `SCREENSHOTS` as for the others.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { launch } from '../e2e/browser.mjs';

const html = readFileSync(process.env.MAIL ?? '', 'utf8');
const expected = JSON.parse(process.env.EXPECTED ?? '{}');
/** WCAG 2, AA. */
const CONTRAST = 4.5;

/** In the page: where links and texts are, and how well each text stands out from what is behind it. */
function measure() {
  const rgba = (text) => {
    const [red, green, blue, alpha = 1] = text.match(/[\d.]+/g).map(Number);
    return { channels: [red, green, blue], alpha };
  };
  const probe = document.createElement('i');
  probe.style.background = 'Canvas';
  document.body.append(probe);
  const canvas = rgba(getComputedStyle(probe).backgroundColor).channels;
  probe.remove();
  const blend = (over, under, alpha) => over.map((channel, at) => channel * alpha + under[at] * (1 - alpha));
  const light = (channels) => {
    const [red, green, blue] = channels.map((channel) => (channel <= 10 ? channel / 3294 : ((channel / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ancestors = (element) => (element ? [...ancestors(element.parentElement), element] : []);
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (!node.textContent.trim()) continue;
    let [behind, opacity] = [canvas, 1];
    for (const element of ancestors(node.parentElement)) {
      const style = getComputedStyle(element);
      const { channels, alpha } = rgba(style.backgroundColor);
      opacity *= Number(style.opacity);
      behind = blend(channels, behind, alpha * opacity);
    }
    const style = getComputedStyle(node.parentElement);
    const ink = rgba(style.color);
    const [high, low] = [light(blend(ink.channels, behind, ink.alpha * opacity)), light(behind)].sort((one, other) => other - one);
    const range = document.createRange();
    range.selectNodeContents(node);
    const { left, right, height } = range.getBoundingClientRect();
    texts.push({ text: node.textContent.trim(), contrast: (high + 0.05) / (low + 0.05), size: parseFloat(style.fontSize), left, right, height });
  }
  const links = [...document.querySelectorAll('a')].map((link) => {
    const { left, right, top, width, height } = link.getBoundingClientRect();
    const background = rgba(getComputedStyle(link).backgroundColor);
    return { href: link.getAttribute('href'), text: link.textContent, left, right, top, width, height, isButton: background.alpha === 1 };
  });
  const sections = [...document.querySelectorAll('section')].map((section) => section.textContent);
  return { canvas: light(canvas), texts, links, sections, excess: document.documentElement.scrollWidth - window.innerWidth };
}

for (const width of [600, 360]) {
  for (const colorScheme of ['light', 'dark']) {
    test(`a digest at ${width} pixels, ${colorScheme}`, async () => {
      const browser = await launch();
      try {
        const context = await browser.newContext({ viewport: { width, height: 800 }, colorScheme, javaScriptEnabled: true });
        const page = await context.newPage();
        await page.setContent(html);
        const { canvas, texts, links, sections, excess } = await page.evaluate(measure);
        const { SCREENSHOTS } = process.env;
        if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, `digest-${width}-${colorScheme}.png`), fullPage: true });

        assert.equal(excess, 0, 'wider than the window');
        assert.ok(colorScheme === 'dark' ? canvas < 0.05 : canvas > 0.95, `the page behind is of lightness ${canvas}`);
        for (const { text, contrast, size, left, right } of texts) {
          assert.ok(contrast >= CONTRAST, `contrast ${contrast.toFixed(2)}: ${text}`);
          assert.ok(size >= 13, `${size} pixels: ${text}`);
          assert.ok(left >= 8 && right <= width - 8, `from ${left} to ${right}: ${text}`);
        }
        // Every chat with its words, in a box of its own.
        assert.equal(sections.length, expected.chats.length);
        for (const { name, link, text } of expected.chats) {
          const found = links.find(({ href }) => href === link);
          assert.ok(found && found.text === name && found.width > 0 && found.height > 0, `${name}: ${JSON.stringify(found)}`);
          assert.ok(sections.some((section) => section.includes(name) && section.includes(text)), `${name}: ${text}`);
        }
        // One button, large enough for a finger, in front of the small print.
        const buttons = links.filter(({ isButton }) => isButton);
        assert.deepEqual(buttons.map(({ href }) => href), [expected.home]);
        assert.ok(buttons[0].height >= 40 && buttons[0].width >= 100, JSON.stringify(buttons[0]));
        const out = links.find(({ href }) => href === expected.unsubscribe);
        assert.ok(out && out.height > 0 && out.top > buttons[0].top, `a way out: ${JSON.stringify(links)}`);
        // Nothing is fetched, and nothing runs.
        assert.equal(await page.locator('img, script, link, iframe').count(), 0);
      } finally {
        await browser.close();
      }
    });
  }
}
