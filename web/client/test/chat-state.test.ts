import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ChatRow, ChatState } from '../src/chat-state.ts';
import type { MessageEvent } from '../src/frames.ts';

const said = (over: Partial<MessageEvent>): MessageEvent => ({
  chat_id: 'c', seq: 1, message_id: 'm', message_seq: 1, sender_id: 'alice', content: 'secret',
  parent_message_id: null, parent_seq: null, app_data: null, created_at: '2026-01-01T00:00:00.000Z', edited_at: null,
  deleted_at: null, ...over,
});

const deleted = said({ seq: 2, content: null, deleted_at: '2026-01-01T00:00:01.000Z' });

/** A row of the chats list whose read model hasn't passed the delete yet. */
const stale: ChatRow = {
  chat_id: 'c', name: null, is_group: false, peer: null, head_seq: 2, delivered_seq: 0, read_seq: 0, unread_count: 0,
  last_message: said({}), last_activity_at: null,
};

test('a late row of the chats list brings no deleted body back', () => {
  const live = new ChatState('c', 0);
  live.applyMessage(said({}), 'bob', 0);
  live.applyMessage(deleted, 'bob', 0);
  live.describe(stale, 'bob');
  assert.equal(live.lastMessage?.content, null);

  const reloaded = new ChatState('c', 1);
  reloaded.describe(stale, 'bob');
  assert.equal(reloaded.lastMessage?.content, 'secret', 'nothing else is known yet');
  reloaded.applyMessage(deleted, 'bob', 0);
  assert.equal(reloaded.lastMessage?.content, null);
});

test('a page of history corrects a late row', () => {
  const chat = new ChatState('c', 2);
  chat.describe(stale, 'bob');
  const { seq: _, ...state } = deleted;
  chat.log.merge({ messages: [state], as_of_seq: 2, has_more_before: false });
  assert.equal(chat.lastMessage?.content, null);
});
