import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ChatState, type MessageState } from '@waltalkie/client';
import { Unread } from '../src/state/unread.ts';

const said = (seq: number, sender: string): MessageState => ({
  chat_id: 'c', message_id: `m${seq}`, message_seq: seq, sender_id: sender, content: 'x', parent_message_id: null,
  parent_seq: null, app_data: null, created_at: '2026-01-01T00:00:00.000Z', edited_at: null, deleted_at: null,
});

function chat(readSeq: number, senders: string[], from = 1): ChatState {
  const state = new ChatState('c', senders.length + from - 1);
  state.readSeq = readSeq;
  state.log.merge({ messages: senders.map((sender, at) => said(at + from, sender)), as_of_seq: senders.length + from - 1, has_more_before: from > 1 });
  return state;
}

test('the line stands over the first message of others that was unread when the chat was opened, and stays', () => {
  const state = chat(1, ['bob', 'alice', 'bob', 'bob']);
  const unread = new Unread();
  unread.open(state);
  assert.equal(unread.from(state, 'alice'), 3);
  state.readSeq = 4;
  assert.equal(unread.from(state, 'alice'), 3);
  unread.clear('c');
  assert.equal(unread.from(state, 'alice'), null);
});

test('no line where nothing was unread, nor while the place where it belongs is not loaded', () => {
  const unread = new Unread();
  const read = chat(2, ['bob', 'bob']);
  unread.open(read);
  read.log.merge({ messages: [said(3, 'bob')], as_of_seq: 3, has_more_before: false });
  assert.equal(unread.from(read, 'alice'), null);
  const far = chat(1, ['bob', 'bob'], 5);
  unread.open(far);
  assert.equal(unread.from(far, 'alice'), null);
  far.log.merge({ messages: [2, 3, 4].map((seq) => said(seq, 'bob')), as_of_seq: 6, has_more_before: false });
  assert.equal(unread.from(far, 'alice'), 2);
});

test('what comes while nobody looks opens a new line, once the one before has been read', () => {
  const state = chat(2, ['bob', 'bob', 'bob', 'bob']);
  const unread = new Unread();
  unread.open(state);
  unread.missed(state, 4);
  assert.equal(unread.from(state, 'alice'), 3, 'still unread');
  state.readSeq = 4;
  state.log.merge({ messages: [said(5, 'bob')], as_of_seq: 5, has_more_before: false });
  unread.missed(state, 5);
  assert.equal(unread.from(state, 'alice'), 5);
});
