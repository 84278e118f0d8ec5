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

test('members: pages and events make one list with roles, and the number of members follows', () => {
  const chat = new ChatState('c', 5);
  chat.describe({ ...stale, is_group: true, head_seq: 5, role: 'admin', member_count: 2 }, 'bob');
  const row = { delivered_seq: 0, read_seq: 0, name: null };
  chat.meet([{ ...row, user_id: 'alice', role: 'owner' }, { ...row, user_id: 'bob', role: 'admin' }], true);
  const stay = { joined_seq: 6, left_seq: null, visible_from_seq: 1 };
  chat.applyChange('member_joined', { chat_id: 'c', seq: 6, memberships: [{ ...stay, user_id: 'carol', role: 'member' }] }, 'bob');
  assert.deepEqual([chat.members.get('carol'), chat.memberCount, chat.role], ['member', 3, 'admin']);
  chat.applyChange('member_updated', { chat_id: 'c', seq: 7, memberships: [{ ...stay, user_id: 'bob', role: 'owner' }] }, 'bob');
  assert.deepEqual([chat.role, chat.memberCount, chat.notes.at(-1)?.role], ['owner', 3, 'owner']);
  chat.applyChange('member_left', { chat_id: 'c', seq: 8, memberships: [{ ...stay, left_seq: 8, user_id: 'carol', role: 'member' }] }, 'bob');
  assert.deepEqual([[...chat.members.keys()], chat.memberCount, chat.membersVersion], [['alice', 'bob'], 2, 3]);
});

test('an event that the server has counted already isn’t counted again', () => {
  const chat = new ChatState('c', 5);
  chat.describe({ ...stale, is_group: true, head_seq: 6, role: 'owner', member_count: 3 }, 'alice');
  chat.applyChange('member_joined', { chat_id: 'c', seq: 6, memberships: [{ joined_seq: 6, left_seq: null, visible_from_seq: 1, user_id: 'carol', role: 'member' }] }, 'alice');
  assert.equal(chat.memberCount, 3);
});

test('only a change of the name is told as one', () => {
  const chat = new ChatState('c', 0);
  chat.applyChange('chat_created', { chat_id: 'c', seq: 1, name: 'Launch', is_group: true }, 'alice');
  chat.applyChange('chat_updated', { chat_id: 'c', seq: 2, name: 'Launch', history_for_new_members: false }, 'alice');
  chat.applyChange('chat_updated', { chat_id: 'c', seq: 3, name: 'Landing' }, 'alice');
  assert.deepEqual([chat.notes.map(({ name }) => name), chat.historyForNewMembers], [['Launch', null, 'Landing'], false]);
});

test('a quoted message from beyond what is loaded follows edits, and a delete for good', () => {
  const chat = new ChatState('c', 10);
  const { seq: _, ...quoted } = said({});
  chat.log.learn({ messages: [quoted], as_of_seq: 10, has_more_before: false });
  assert.equal(chat.log.latest('m')?.content, 'secret');
  assert.equal(chat.log.messages.length, 0, 'it isn’t shown among the loaded ones');
  chat.applyMessage(said({ seq: 11, content: 'milder' }), 'bob', 0);
  assert.equal(chat.log.latest('m')?.content, 'milder');
  chat.applyMessage({ ...deleted, seq: 12 }, 'bob', 0);
  chat.log.learn({ messages: [quoted], as_of_seq: 13, has_more_before: false });
  assert.equal(chat.log.latest('m')?.content, null);
});
