import type { ClientFrame } from './frames.ts';
import type { Entry } from './outbox.ts';

/** The frame that carries out an outbox entry. Its id is the entry's, so that each answer finds it. */
export function commandFrame({ kind, op_id, chat_id, message_id, content, attachments, parent_message_id }: Entry): ClientFrame {
  const message = { chat_id, message_id };
  switch (kind) {
    case 'send': {
      const files = attachments?.length ? { attachments: attachments.map(({ media_id }) => media_id) } : {};
      const answers = parent_message_id ? { parent_message_id } : {};
      return { event: 'send_message', id: op_id, payload: { ...message, content, ...files, ...answers } };
    }
    case 'edit':
      return { event: 'edit_message', id: op_id, payload: { ...message, content } };
    case 'delete':
      return { event: 'delete_message', id: op_id, payload: message };
  }
}
