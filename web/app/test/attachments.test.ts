import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Attachment } from '@waltalkie/client';
import { attachmentsText, bytesOf, durationText, messageText, shownSize, sizeText } from '../src/model/attachments.ts';

function file(kind: string, name = 'a.bin'): Attachment {
  return { media_id: 'm', kind, file_name: name, content_type: '', size_bytes: 1, width_px: null, height_px: null, duration_ms: null, thumbhash: null };
}

test('files are told of in a few words', () => {
  assert.equal(attachmentsText(undefined), '');
  assert.equal(attachmentsText([]), '');
  assert.equal(attachmentsText([file('image')]), 'Photo');
  assert.equal(attachmentsText([file('image'), file('image')]), '2 photos');
  assert.equal(attachmentsText([file('file', 'plan.pdf')]), 'plan.pdf');
  assert.equal(attachmentsText([file('file'), file('video')]), '2 files');
  assert.equal(attachmentsText([file('hologram', 'h.x')]), 'h.x');
  assert.equal(messageText({ content: 'hi', attachments: [file('image')] }), 'hi');
  assert.equal(messageText({ content: '', attachments: [file('image')] }), 'Photo');
  assert.equal(messageText({ content: null }), '');
});

test('sizes and lengths are for people', () => {
  assert.deepEqual([0, 999, 1_000, 9_940, 99_900, 999_600, 12_345_678, 5e12].map(sizeText), ['0 B', '999 B', '1.0 kB', '9.9 kB', '100 kB', '1.0 MB', '12 MB', '5000 GB']);
  assert.deepEqual([0, 7_400, 61_000, 3_723_000].map(durationText), ['0:00', '0:07', '1:01', '1:02:03']);
});

test('a picture fits into its box and can be hit', () => {
  assert.deepEqual(shownSize(4_000, 3_000, 340), { width: 340, height: 255 });
  assert.deepEqual(shownSize(300, 200, 340), { width: 300, height: 200 });
  assert.deepEqual(shownSize(10, 4_000, 340), { width: 72, height: 340 });
});

test('Base64 that is none is nothing', () => {
  assert.deepEqual([...bytesOf('AQID')], [1, 2, 3]);
  assert.equal(bytesOf('?').length, 0);
  assert.equal(bytesOf(null).length, 0);
});
