import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Player } from '../src/state/player.ts';

test('a URL that has ended is replaced once, and again after it has played', async () => {
  let made = 0;
  const player = new Player(async () => `url-${++made}`);
  assert.equal(await player.failed(12), 'url-1');
  assert.equal(await player.failed(12), null);
  player.plays();
  assert.equal(await player.failed(12), 'url-2');
  assert.equal(await player.failed(40), 'url-3');
});

test('a file that is gone is over', async () => {
  assert.equal(await new Player(async () => null).failed(0), null);
});
