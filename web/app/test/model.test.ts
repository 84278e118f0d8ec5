import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Entry, Message } from '@waltalkie/client';
import { linkify } from '../src/model/linkify.ts';
import { listed, typingText } from '../src/model/names.ts';
import { presenceText } from '../src/model/presence.ts';
import { byRole, mayGiveRoles, mayManage, mayRemove, ROLES } from '../src/model/roles.ts';
import { buildBlocks, type MessageRow, type RowsInput } from '../src/model/rows.ts';
import { clockText, dayText, lastSeenText } from '../src/model/times.ts';
import { wayOf } from '../src/model/way.ts';

const links = (body: string) => linkify(body).flatMap(({ href }) => (href === null ? [] : [href]));

test('links: only web addresses, without the sentence around them', () => {
  assert.deepEqual(links('see https://a.example/x?y=1, or (http://b.example/(z)).'), ['https://a.example/x?y=1', 'http://b.example/(z)']);
  assert.deepEqual(links('javascript:alert(1) data:text/html,x <img src=x> ftp://a.example'), []);
  assert.deepEqual(links('https://'), []);
});

test('links: nothing that pretends to lead elsewhere', () => {
  assert.deepEqual(links('https://bank.example@evil.example/ https://:x@evil.example'), []);
  assert.deepEqual(links('https://a.example/\u202egpj.exe https://a.example\u200b.evil.example'), ['https://a.example/', 'https://a.example']);
});

test('links: the pieces make up the body again', () => {
  for (const body of ['', 'plain', 'https://a.example', 'a https://a.example b http://c.example.', '<b>https://a.example"</b>']) {
    assert.equal(linkify(body).map(({ text }) => text).join(''), body);
  }
});

test('days are called by their distance', () => {
  const now = new Date(2026, 5, 17, 0, 5).getTime();
  assert.equal(dayText(now, now), 'Today');
  assert.equal(dayText(now - 10 * 60_000, now), 'Yesterday');
  assert.match(dayText(new Date(2024, 0, 1).getTime(), now), /2024/);
});

test('last seen: minutes ago, then a time of the day, then the day', () => {
  const now = new Date(2026, 5, 17, 12, 0).getTime();
  const seen = (...at: [number, number, number, number, number]) => lastSeenText(new Date(...at).getTime(), now);
  assert.equal(lastSeenText(now + 5_000, now), 'just now', 'a clock that is behind');
  assert.equal(lastSeenText(now - 59_999, now), 'just now');
  assert.equal(lastSeenText(now - 60_000, now), '1 min ago');
  assert.equal(seen(2026, 5, 17, 11, 1), '59 min ago');
  const clock = (hour: number) => clockText(new Date(2026, 5, 17, hour, 30).getTime());
  assert.equal(seen(2026, 5, 17, 9, 30), `today at ${clock(9)}`);
  assert.equal(seen(2026, 5, 16, 23, 30), `yesterday at ${clock(23)}`);
  assert.match(seen(2025, 11, 31, 9, 30), /^on .*2025/);
});

test('presence: what isn’t known isn’t said', () => {
  const at = Date.parse('2026-01-01T00:05:00.000Z');
  assert.equal(presenceText(undefined, at), '');
  assert.equal(presenceText({ state: 'offline', last_seen_at: null }, at), '');
  assert.equal(presenceText({ state: 'offline', last_seen_at: '2026-01-01T00:00:00.000Z' }, at), 'last seen 5 min ago');
  assert.equal(presenceText({ state: 'online', last_seen_at: null }, at), 'online');
});

test('typing: two are named, more aren’t', () => {
  const lines = [[], ['Ana'], ['Ana', 'Ben'], ['Ana', 'Ben', 'Cleo']].map((names) => typingText(names).replace(/[\u2068\u2069]/g, ''));
  assert.deepEqual(lines, ['', 'Ana is typing…', 'Ana and Ben are typing…', 'Several people are typing…']);
});

const message = (seq: number, sender: string, minute: number, change: Partial<Message> = {}): Message => ({
  chat_id: 'c', message_id: `m${seq}`, message_seq: seq, sender_id: sender, content: `text ${seq}`, parent_message_id: null,
  parent_seq: null, app_data: null, created_at: new Date(2026, 0, 1, 12, minute).toISOString(), edited_at: null, deleted_at: null,
  version: seq, ...change,
});
const entry = (change: Partial<Entry>): Entry => ({
  op_id: 'p', order: 1, kind: 'send', chat_id: 'c', message_id: 'p', content: 'new', created_ms: new Date(2026, 0, 1, 12, 30).getTime(),
  failure: null, phase: 'queued', attempts: 0, not_before_ms: 0, sent_ms: 0, ...change,
});
const input = (change: Partial<RowsInput>): RowsInput => ({
  me: 'alice', messages: [], notes: [], entries: [], deliveredSeq: 0, readSeq: 0, hideDeleted: false, unreadFromSeq: null, quoted: () => 'absent' as const, ...change,
});
const rowsOf = (change: Partial<RowsInput>) =>
  buildBlocks(input(change), []).flatMap(({ rows }) => rows).filter((row): row is MessageRow => row.kind === 'message');

test('rows: one sender’s messages join for five minutes', () => {
  const rows = rowsOf({ messages: [message(1, 'bob', 0), message(2, 'bob', 1), message(3, 'alice', 2), message(4, 'alice', 9)] });
  assert.deepEqual(rows.map(({ first, last }) => [first, last]), [[true, false], [false, true], [true, true], [true, true]]);
  assert.deepEqual(rows.map(({ newDay }) => newDay), [true, false, false, false]);
});

test('rows: states of own messages', () => {
  const mine = [1, 2, 3].map((seq) => message(seq, 'alice', 0));
  const rows = rowsOf({ messages: [...mine, message(4, 'bob', 0)], deliveredSeq: 2, readSeq: 1, entries: [entry({}), entry({ op_id: 'q', message_id: 'q', phase: 'accepted' })] });
  assert.deepEqual(rows.map(({ status }) => status), ['read', 'delivered', 'persisted', null, 'pending', 'accepted']);
});

test('rows: a send whose event has come is shown once', () => {
  assert.equal(rowsOf({ messages: [message(1, 'alice', 0, { message_id: 'p' })], entries: [entry({ phase: 'persisted' })] }).length, 1);
});

test('rows: an edit shows at once, a refused one shows the old text and the failure', () => {
  const edit = entry({ kind: 'edit', message_id: 'm1', content: 'better' });
  const messages = [message(1, 'alice', 0)];
  assert.equal(rowsOf({ messages, entries: [edit] })[0]?.content, 'better');
  const [failed] = rowsOf({ messages, entries: [{ ...edit, phase: 'failed', failure: { code: 'forbidden', message: 'no' } }] });
  assert.deepEqual([failed?.content, failed?.status, failed?.failure], ['text 1', 'failed', 'no']);
});

test('rows: deleted ones are tombstones or hidden, as the chat has it', () => {
  const messages = [message(1, 'bob', 0, { content: null, deleted_at: '2026-01-01T00:00:00.000Z' }), message(2, 'bob', 0)];
  assert.equal(rowsOf({ messages }).length, 2);
  assert.equal(rowsOf({ messages, hideDeleted: true }).length, 1);
});

test('rows: a reply shows what it answers, as it is now, and no body of a deleted one', () => {
  const parent = message(1, 'bob', 0, { content: 'edited since' });
  const answers = { parent_message_id: 'm1', parent_seq: 1 };
  const reply = (quoted: RowsInput['quoted']) => rowsOf({ messages: [message(2, 'alice', 0, answers)], quoted })[0];
  const known = reply(() => parent);
  assert.deepEqual([known?.parent, known?.parentSender, known?.parentText, known?.parentSeq], ['known', 'bob', 'edited since', 1]);
  const deleted = reply(() => ({ ...parent, content: null, deleted_at: '2026-01-01T00:00:00.000Z' }));
  assert.deepEqual([deleted?.parent, deleted?.parentText], ['deleted', null]);
  assert.equal(reply(() => 'absent')?.parent, 'absent');
  const [gone] = rowsOf({ messages: [message(2, 'alice', 0, { ...answers, content: null, deleted_at: '2026-01-01T00:00:00.000Z' })], quoted: () => parent });
  assert.equal(gone?.parent, null, 'a tombstone answers nothing');
  const [waiting] = rowsOf({ entries: [entry({ parent_message_id: 'm1' })], quoted: () => parent });
  assert.equal(waiting?.parentText, 'edited since');
});

test('roles: who is offered what, as the table in docs/roles.md', () => {
  assert.deepEqual(ROLES.map(mayManage), [false, true, true]);
  assert.deepEqual(ROLES.map(mayGiveRoles), [false, false, true]);
  const removes = (role: string) => ROLES.filter((other) => mayRemove(role, other));
  assert.deepEqual(ROLES.map(removes), [[], ['member'], ['member', 'admin', 'owner']]);
  const people = [{ role: 'member', name: 'Al' }, { role: 'owner', name: 'Zoe' }, { role: 'admin', name: 'Bo' }, { role: 'admin', name: 'Ann' }];
  assert.deepEqual(people.sort(byRole).map(({ name }) => name), ['Zoe', 'Ann', 'Bo', 'Al']);
});

test('names: the first few of many', () => {
  const plain = (text: string) => text.replace(/[\u2068\u2069]/g, '');
  assert.equal(plain(listed(['A', 'B'])), 'A, B');
  assert.equal(plain(listed(['A', 'B', 'C', 'D', 'E', 'F', 'G'])), 'A, B, C, D, E and 2 more');
});

test('blocks that did not change are the same objects', () => {
  const messages = Array.from({ length: 200 }, (_, i) => message(i + 1, i % 2 ? 'bob' : 'carol', 0));
  const before = buildBlocks(input({ messages }), []);
  const after = buildBlocks(input({ messages: [...messages, message(201, 'carol', 0)] }), before);
  assert.equal(after.filter((block) => before.includes(block)).length, after.length - 1);
  assert.equal(after.at(-1)?.rows[0], before.at(-1)?.rows[0]);
});

test('the way: in order of time, with milliseconds since the first step', () => {
  const at = Date.parse('2026-01-01T12:00:00.000Z');
  const way = { commit_lsn: '0/1A2B', partition: 3, offset: 9, occurred_at: new Date(at + 8).toISOString(), relayed_at: new Date(at + 20).toISOString() };
  const steps = wayOf(message(5, 'alice', 0, { way, received_ms: at + 25 }), { sent_ms: at, accepted_ms: at + 4, persisted_ms: at + 12, seq: 5 },
    [{ user_id: 'bob', delivered_seq: 4, at_ms: at + 1 }, { user_id: 'bob', delivered_seq: 6, at_ms: at + 40 }], (id) => id);
  assert.deepEqual(steps.map(({ label, sinceMs }) => [label, sinceMs]), [
    ['Sent', 0], ['Accepted', 4], ['Committed', 8], ['Persisted, answered', 12], ['Published', 20], ['Received here', 25], ['Delivered', 40],
  ]);
});
