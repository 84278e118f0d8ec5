/** The cases of `notify/tests/tables/decisions.txt`, by which the notifier decides too; and what that table doesn't say. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { ChatState, type MessageEvent, type NotificationSettings } from '@waltalkie/client';
import { isNamed, namesAll } from '../src/model/mentions.ts';
import { isQuiet } from '../src/model/quiet.ts';
import { countedUnread, isAnnounced, wantedUnread } from '../src/model/signs.ts';

const CHAT = 'team';
const SEQ = 50;
const bob = { id: 'u-bob', name: 'Bob' };
const night = { from: '22:00', to: '07:00', time_zone: 'Europe/Berlin' };

const TEXTS: Record<string, string> = { mention: 'look here, @Bob', mail_inside: 'write to shop@bob.example', file: '' };
const TIMES: Record<string, string> = {
  noon: '2026-01-15T11:00:00Z', late: '2026-01-15T11:00:00Z', night: '2026-01-15T22:00:00Z',
  evening: '2026-01-15T20:50:00Z', dawn: '2026-01-15T06:00:00Z', summer: '2026-07-15T05:30:00Z',
};
/** What doesn't reach a client as a new message. */
const NEVER_COMES = ['not_a_message', 'withheld', 'not_a_member', 'hidden'];

function settingsOf(changes: string): NotificationSettings {
  const has = (change: string) => changes.split(' ').includes(change);
  return {
    in_app: !has('-in_app'), push: !has('-push'), email: has('+email'), do_not_disturb: has('dnd') ? night : null,
    muted_chat_ids: has('muted') ? [CHAT] : [], mentions_only_chat_ids: has('mentions_only') ? [CHAT] : [], content: 'full', language: 'en',
  };
}

function said(kind: string, seq = SEQ): MessageEvent {
  const at = '2026-01-15T11:00:00.000Z';
  return {
    chat_id: CHAT, message_id: `m${seq}`, message_seq: seq, seq, sender_id: kind === 'own' ? bob.id : 'u-alice',
    content: kind.startsWith('all@') ? '@all: lunch' : kind === 'deleted' ? null : (TEXTS[kind] ?? 'hello Bob'),
    parent_message_id: null, parent_seq: null, app_data: null, created_at: at, edited_at: null, deleted_at: kind === 'deleted' ? at : null,
  };
}

/** A chat that has just got these messages, of which all before were read. */
function chatWith(...messages: MessageEvent[]): ChatState {
  const chat = new ChatState(CHAT, SEQ - 1);
  chat.readSeq = SEQ - 1;
  chat.cursor.observeHead(SEQ - 1 + messages.length);
  for (const message of messages) chat.applyMessage(message, bob.id, 0);
  return chat;
}

test('the table of decisions holds for what the application shows by itself', () => {
  const file = new URL('../../../../notify/tests/tables/decisions.txt', import.meta.url);
  const lines = readFileSync(file, 'utf8').split('\n').filter((line) => line.trim() !== '' && !line.startsWith('#'));
  let cases = 0;
  for (const line of lines) {
    const [kind = '', changes = '', person, , , time = '', inApp, , , cause = ''] = line.split('|').map((field) => field.trim());
    if (NEVER_COMES.includes(cause)) continue;
    const [settings, message] = [settingsOf(changes), said(kind)];
    const chat = chatWith(message);
    if (person === 'read') chat.read(SEQ, bob.id);
    if (kind.startsWith('all@')) chat.members.set('u-alice', kind.slice('all@'.length));
    const nowMs = Date.parse(TIMES[time] ?? '');
    assert.equal(isAnnounced(message, chat, settings, bob, nowMs), inApp === 'show', line);
    assert.equal(wantedUnread(chat, settings, bob), inApp === 'nothing' ? 0 : 1, line);
    assert.equal(countedUnread([chat], settings, bob), inApp === 'show' || inApp === 'do_not_disturb' ? 1 : 0, line);
    cases += 1;
  }
  assert.ok(cases >= 60, `only ${cases} cases`);
});

test('numbers: all of a chat, those that name the person, or none, over all chats', () => {
  const chat = chatWith(said('plain'), said('mention', SEQ + 1), said('own', SEQ + 2), said('mention', SEQ + 3));
  assert.equal(wantedUnread(chat, settingsOf('default'), bob), 3);
  assert.equal(wantedUnread(chat, settingsOf('mentions_only'), bob), 2);
  assert.equal(wantedUnread(chat, settingsOf('muted mentions_only'), bob), 0);
  const other = new ChatState('other', 0);
  other.unread = 4;
  assert.equal(countedUnread([chat, other], settingsOf('muted'), bob), 4);
  assert.equal(countedUnread([chat, other], settingsOf('-in_app'), bob), 0);
  chat.read(SEQ + 1, bob.id);
  assert.equal(wantedUnread(chat, settingsOf('mentions_only'), bob), 1);
});

test('an @all of whom the role isn’t known counts for nothing where only mentions do', () => {
  const message = said('all@admin');
  const chat = chatWith(message);
  const only = settingsOf('mentions_only');
  const noon = Date.parse(message.created_at);
  assert.equal(isAnnounced(message, chat, only, bob, noon), false);
  chat.members.set('u-alice', 'admin');
  assert.equal(isAnnounced(message, chat, only, bob, noon), true);
});

test('names are found whole, as the notifier finds them', () => {
  const ann = { id: 'u-1', name: 'Ann' };
  for (const text of ['@Ann', 'hi @ann, there', '(@ANN)', 'see @Ann.', '@Ann: look', '@u-1', '@u-1.', '@@Ann']) assert.ok(isNamed(text, ann), text);
  for (const text of ['@Anna', '@Ann_x', '@Ann.b', '@Ann-Marie', 'ann@Ann.example', 'mail x@Ann', 'Ann', '@ Ann', '@u-12', '']) assert.ok(!isNamed(text, ann), text);
  const text = '@Jörg Müller und @李雷 bitte, @𝒶';
  assert.ok(isNamed(text, { id: 'u1', name: 'jörg müller' }) && isNamed(text, { id: 'u2', name: '李雷' }) && isNamed(text, { id: 'u3', name: '𝒶' }));
  assert.ok(!isNamed(text, { id: 'u4', name: 'Jörg Mül' }) && !isNamed(text, { id: 'u5', name: '  ' }));
  assert.ok(namesAll('@all: lunch') && namesAll('@All') && !namesAll('@allison') && !namesAll('all'));
  assert.ok(!isNamed(`${'@'.repeat(200)}Ann`, ann), 'a text of nothing else isn’t looked through to its end');
});

test('quiet hours are those of their zone, in summer and winter', () => {
  for (const [now, quiet] of [
    ['2026-01-15T20:59:59Z', false], ['2026-01-15T21:00:00Z', true], ['2026-01-16T05:59:59Z', true], ['2026-01-16T06:00:00Z', false],
    ['2026-07-15T19:59:59Z', false], ['2026-07-15T20:00:00Z', true], ['2026-07-16T05:00:00Z', false],
  ] as const) {
    assert.equal(isQuiet(night, Date.parse(now)), quiet, now);
  }
  const day = { from: '09:00', to: '17:30', time_zone: 'posix/Asia/Kolkata' };
  assert.equal(isQuiet(day, Date.parse('2026-01-15T03:30:00Z')), true);
  assert.equal(isQuiet(day, Date.parse('2026-01-15T12:00:00Z')), false);
  assert.equal(isQuiet({ ...day, time_zone: 'Middle/Earth' }, Date.parse('2026-01-15T06:00:00Z')), false);
  assert.equal(isQuiet(null, 0), false);
});
