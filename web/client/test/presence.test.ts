import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeFrame, type MessageEvent, type ServerFrame } from '../src/frames.ts';
import { Presences } from '../src/presences.ts';
import { Session, type Effect } from '../src/session.ts';
import { Typing } from '../src/typing.ts';

const CHAT = 'c1';
const SEEN_AT = '2026-01-01T00:00:00.000Z';
const hello: ServerFrame = {
  event: 'hello',
  payload: { session_id: 's', user_id: 'alice', heartbeat_ms: 5000, epoch: 'e1', development: true, limits: { content_bytes: 1, frame_bytes: 1 } },
};
const chats = (visible: [number, number | null] = [1, null], head = 5): ServerFrame => ({
  event: 'chats',
  payload: { complete: true, chats: [{ chat_id: CHAT, head_seq: head, delivered_seq: 5, read_seq: 5, visible: [visible] }] },
});
const typing = (userId: string, chatId = CHAT): ServerFrame => ({ event: 'typing', payload: { chat_id: chatId, user_id: userId } });
const online = (userId: string): ServerFrame => ({
  event: 'presence',
  payload: { chat_id: CHAT, users: { alice: { state: 'online', last_seen_at: null }, [userId]: { state: 'online', last_seen_at: null } } },
});
const member = (event: 'member_joined' | 'member_left', seq: number, userId: string): ServerFrame => ({
  event,
  payload: {
    chat_id: CHAT, seq, actor_id: userId,
    memberships: [{ user_id: userId, role: 'member', joined_seq: 1, left_seq: event === 'member_left' ? seq : null, visible_from_seq: 1 }],
  },
});
const isPresence = (effect: Effect): boolean => effect.do === 'presence';
const message = (seq: number, change: Partial<MessageEvent> = {}): MessageEvent => ({
  chat_id: CHAT, seq, message_id: `m${change.message_seq ?? seq}`, message_seq: seq, sender_id: 'bob', content: 'text',
  parent_message_id: null, parent_seq: null, app_data: null, created_at: SEEN_AT, edited_at: null, deleted_at: null, ...change,
});
const drawn: Effect[] = [{ do: 'changed', chatId: CHAT }];
const told: Effect[] = [{ do: 'send', frame: { event: 'typing', payload: { chat_id: CHAT } } }];

function started(): Session {
  const session = new Session();
  session.receive(hello, 0, 0);
  session.receive(chats(), 0, 0);
  session.tick(0);
  return session;
}

test('both frames are known', () => {
  for (const event of ['typing', 'presence']) assert.equal(decodeFrame(JSON.stringify({ event, payload: {} }))?.event, event);
});

test('typing holds for six seconds after the last frame, whoever began first comes first', () => {
  const people = new Typing();
  assert.ok(people.heard('a', 'bob', 0));
  assert.ok(people.heard('a', 'carol', 1_000));
  assert.ok(!people.heard('a', 'bob', 3_000), 'no news while it holds');
  assert.deepEqual(people.who('a', 6_999), ['bob', 'carol']);
  assert.deepEqual(people.who('a', 7_000), ['bob']);
  assert.deepEqual(people.who('b', 7_000), []);
  assert.deepEqual([people.expire(6_999), people.expire(7_000), people.expire(7_000), people.expire(9_000)], [[], ['a'], [], ['a']]);
  assert.ok(people.heard('a', 'bob', 9_000));
});

test('typing is told at most every three seconds a chat', () => {
  const own = new Typing();
  const at = [0, 1, 2_999, 3_000, 5_999, 6_000].filter((now) => own.due('a', now));
  assert.deepEqual(at, [0, 3_000, 6_000]);
  assert.ok(own.due('b', 6_000));
});

test('presences: told by each shared chat, news once', () => {
  const people = new Presences();
  assert.equal(people.of('bob'), undefined);
  assert.ok(people.heard('a', 'bob', { state: 'online', last_seen_at: null }));
  assert.ok(!people.heard('b', 'bob', { state: 'online', last_seen_at: null }));
  assert.ok(!people.heard('b', 'bob', { state: 'offline', last_seen_at: null }), 'online by the other chat');
  assert.ok(people.heard('a', 'bob', { state: 'offline', last_seen_at: SEEN_AT }));
  assert.deepEqual(people.of('bob'), { state: 'offline', last_seen_at: SEEN_AT });
});

test('presences: a chat that one leaves tells no more', () => {
  const people = new Presences();
  for (const chatId of ['a', 'b']) people.heard(chatId, 'bob', { state: 'online', last_seen_at: null });
  people.heard('a', 'carol', { state: 'online', last_seen_at: null });
  people.heard('a', 'dave', { state: 'offline', last_seen_at: SEEN_AT });
  assert.deepEqual(people.left('a'), ['carol'], 'bob is online by the other chat');
  assert.deepEqual([people.of('bob')?.state, people.of('carol'), people.of('dave')?.state], ['online', undefined, 'offline']);
  assert.deepEqual(people.left('a'), []);
  assert.deepEqual(people.left('b'), ['bob']);
});

test('a session draws a chat when somebody begins to type and when they stop', () => {
  const session = started();
  assert.deepEqual(session.receive(typing('bob'), 0, 0), drawn);
  assert.deepEqual(session.receive(typing('bob'), 3_000, 0), []);
  assert.deepEqual(session.tick(8_999), []);
  assert.deepEqual(session.typing.who(CHAT, 8_999), ['bob']);
  assert.deepEqual(session.tick(9_000), drawn);
  assert.deepEqual(session.receive(typing('alice'), 9_000, 0), [], 'oneself, from another device');
  assert.deepEqual(session.receive(typing('bob', 'unheard of'), 9_000, 0), []);
});

test('a person’s next message ends their typing, an edit and another’s message don’t', () => {
  const session = started();
  session.receive(typing('bob'), 0, 0);
  session.receive({ event: 'message', payload: message(6, { sender_id: 'carol' }) }, 1, 0);
  session.receive({ event: 'message_edited', payload: message(7, { message_seq: 3 }) }, 1, 0);
  assert.deepEqual(session.typing.who(CHAT, 1), ['bob']);
  session.receive({ event: 'message', payload: message(8) }, 1, 0);
  assert.deepEqual(session.typing.who(CHAT, 1), []);
});

test('own typing is told in step only, and only of a chat one is in', () => {
  const session = new Session();
  assert.deepEqual(session.typed(CHAT, 0), []);
  session.receive(hello, 0, 0);
  assert.deepEqual(session.typed(CHAT, 0), []);
  session.receive(chats(), 0, 0);
  assert.deepEqual(session.typed('not there yet', 0), []);
  assert.deepEqual(session.typed(CHAT, 0), told);
  assert.deepEqual(session.typed(CHAT, 2_999), []);
  session.disconnected();
  assert.deepEqual(session.typed(CHAT, 9_000), []);
  session.receive(hello, 9_000, 0);
  session.receive(chats([1, 5]), 9_000, 0);
  assert.deepEqual(session.typed(CHAT, 9_000), [], 'no longer a member');
});

test('one’s own message starts the throttle of its chat anew, an edit and another’s message don’t', () => {
  const session = started();
  assert.deepEqual(session.typed(CHAT, 0), told);
  session.receive({ event: 'message', payload: message(6) }, 1, 0);
  session.receive({ event: 'message_edited', payload: message(7, { message_seq: 3, sender_id: 'alice' }) }, 1, 0);
  assert.deepEqual(session.typed(CHAT, 2), []);
  session.receive({ event: 'message', payload: message(8, { sender_id: 'alice' }) }, 3, 0);
  assert.deepEqual(session.typed(CHAT, 3), told);
  assert.deepEqual(session.typed(CHAT, 4), []);
});

test('leaving a chat takes along who was there by it and who typed in it', () => {
  const session = started();
  session.receive(online('bob'), 0, 0);
  session.receive(typing('bob'), 0, 0);
  assert.deepEqual(session.receive(member('member_left', 6, 'carol'), 1, 0).filter(isPresence), [], 'another one left');
  assert.deepEqual(session.typing.who(CHAT, 1), ['bob']);
  assert.deepEqual(session.receive(member('member_left', 7, 'alice'), 1, 0).filter(isPresence), [{ do: 'presence', userId: 'bob' }]);
  assert.equal(session.presences.of('bob'), undefined);
  assert.deepEqual(session.typing.who(CHAT, 1), []);
});

test('a chat that was left and joined again without a connection keeps who is there', () => {
  const session = started();
  session.disconnected();
  session.receive(hello, 10, 0);
  session.receive(chats([7, null], 7), 10, 0);
  session.receive(online('bob'), 10, 0);
  session.receive(member('member_left', 6, 'alice'), 11, 0);
  session.receive(member('member_joined', 7, 'alice'), 11, 0);
  assert.equal(session.presences.of('bob')?.state, 'online');
});

test('a lost connection takes along who was there and who typed', () => {
  const session = started();
  assert.deepEqual(session.receive(online('bob'), 0, 0), [{ do: 'presence', userId: 'bob' }]);
  session.receive(typing('bob'), 0, 0);
  assert.deepEqual(session.disconnected(), [...drawn, { do: 'presence', userId: 'bob' }]);
  assert.equal(session.presences.of('bob'), undefined);
  assert.deepEqual(session.typing.who(CHAT, 1), []);
  assert.deepEqual(session.disconnected(), []);
  session.receive(hello, 10, 0);
  assert.deepEqual(session.receive(online('bob'), 10, 0), [{ do: 'presence', userId: 'bob' }]);
});
