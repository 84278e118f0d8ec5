/** The networks of `clients/vectors/sync.json`, which every client's sync core survives. See docs/clients.md. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { decodeFrame } from '../src/frames.ts';
import { Session, type Effect } from '../src/session.ts';

interface Step {
  at_ms: number;
  disconnect?: true;
  connect?: { epoch: string; heads: Record<string, number> };
  frame?: unknown;
  cursors: Record<string, number>;
  shown: [string, number][];
  resumes: Record<string, number | null>;
}

const file = new URL('../../../../clients/vectors/sync.json', import.meta.url);
const { cases } = JSON.parse(readFileSync(file, 'utf8')) as { cases: { name: string; steps: Step[] }[] };

function receive(session: Session, frame: unknown, now: number): Effect[] {
  return session.receive(decodeFrame(JSON.stringify(frame))!, now, 0);
}

function greet(session: Session, { epoch, heads }: NonNullable<Step['connect']>, now: number): Effect[] {
  const limits = { content_bytes: 16_384, frame_bytes: 65_536 };
  const hello = { session_id: 's', user_id: 'alice', heartbeat_ms: 5_000, epoch, development: true, limits };
  const chats = Object.entries(heads).map(([chat_id, head_seq]) => ({ chat_id, head_seq, delivered_seq: 0, read_seq: 0, visible: [[1, null]] }));
  return [
    ...receive(session, { event: 'hello', payload: hello }, now),
    ...receive(session, { event: 'chats', payload: { chats, complete: true } }, now),
  ];
}

function happens(session: Session, step: Step): Effect[] {
  if (step.disconnect) return session.disconnected();
  if (step.connect) return greet(session, step.connect, step.at_ms);
  return step.frame === undefined ? [] : receive(session, step.frame, step.at_ms);
}

test('there are cases', () => assert.ok(cases.length > 40));

for (const { name, steps } of cases) {
  test(name, () => {
    const session = new Session();
    for (const [index, step] of steps.entries()) {
      const effects = [...happens(session, step), ...session.tick(step.at_ms)];
      const shown = effects.flatMap((effect) => (effect.do === 'event' ? [[effect.event.payload.chat_id, effect.event.seq]] : []));
      const asked: Record<string, number> = {};
      for (const effect of effects) {
        if (effect.do === 'send' && effect.frame.event === 'resume') Object.assign(asked, effect.frame.payload.cursors);
      }
      const at = `step ${index}: ${JSON.stringify(step)}`;
      const cursors = Object.fromEntries([...session.chats].map(([chatId, { cursor }]) => [chatId, cursor.cursor]));
      assert.deepEqual(cursors, step.cursors, at);
      assert.deepEqual(shown, step.shown, at);
      for (const [chatId, wanted] of Object.entries(step.resumes)) assert.equal(asked[chatId] ?? null, wanted, `${chatId} of ${at}`);
    }
  });
}
