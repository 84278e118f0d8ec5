import type { ClientFrame } from './frames.ts';
import type { Entry } from './outbox.ts';

/** The frame that carries out an outbox entry. Its id is the entry's, so that each answer finds it. */
export function commandFrame({ kind, op_id, chat_id, message_id, content }: Entry): ClientFrame {
  const event = { send: 'send_message', edit: 'edit_message', delete: 'delete_message' }[kind];
  const payload = kind === 'delete' ? { chat_id, message_id } : { chat_id, message_id, content };
  return { event, id: op_id, payload };
}
