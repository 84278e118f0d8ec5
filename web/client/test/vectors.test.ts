/** The networks of `clients/vectors/sync.json`, which every client's sync core survives. See docs/clients.md. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { decodeFrame } from '../src/frames.ts';
import { Session, type Effect } from '../src/session.ts';

interface Step {
  at_ms: number;
  disconnect?: true;
  connect?: { head: number };
  frame?: unknown;
  cursor: number;
  shown: number[];
  resumes_from?: number | null;
}

const file = new URL('../../../../clients/vectors/sync.json', import.meta.url);
const { cases } = JSON.parse(readFileSync(file, 'utf8')) as { cases: { name: string; head: number; steps: Step[] }[] };

function receive(session: Session, frame: unknown, now: number): Effect[] {
  return session.receive(decodeFrame(JSON.stringify(frame))!, now, 0);
}

function greet(session: Session, head: number, now: number): Effect[] {
  const limits = { content_bytes: 16_384, frame_bytes: 65_536 };
  const hello = { session_id: 's', user_id: 'alice', heartbeat_ms: 5_000, epoch: 'e1', development: true, limits };
  const chat = { chat_id: 'c1', head_seq: head, delivered_seq: 0, read_seq: 0, visible: [[1, null]] };
  return [
    ...receive(session, { event: 'hello', payload: hello }, now),
    ...receive(session, { event: 'chats', payload: { chats: [chat], complete: true } }, now),
  ];
}

function happens(session: Session, step: Step): Effect[] {
  if (step.disconnect) return session.disconnected();
  if (step.connect) return greet(session, step.connect.head, step.at_ms);
  return step.frame === undefined ? [] : receive(session, step.frame, step.at_ms);
}

for (const { name, head, steps } of cases) {
  test(name, () => {
    const session = new Session();
    greet(session, head, 0);
    for (const [index, step] of steps.entries()) {
      const effects = [...happens(session, step), ...session.tick(step.at_ms)];
      const shown = effects.flatMap((effect) => (effect.do === 'event' ? [effect.event.seq] : []));
      const resumes = effects.flatMap((effect) =>
        effect.do === 'send' && effect.frame.event === 'resume' ? [(effect.frame.payload.cursors as Record<string, number>).c1] : [],
      );
      const at = `step ${index}: ${JSON.stringify(step)}`;
      assert.equal(session.chats.get('c1')!.cursor.cursor, step.cursor, at);
      assert.deepEqual(shown, step.shown, at);
      if (step.resumes_from !== undefined) assert.equal(resumes[0] ?? null, step.resumes_from, at);
    }
  });
}
