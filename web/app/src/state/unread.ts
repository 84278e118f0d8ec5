/** Where the line "New" stands in each chat: fixed when the chat is opened, so that it stays while one reads. */
import type { ChatState } from '@waltalkie/client';

interface Span {
  /** All up to here had been read. */
  after: number;
  /** What came later isn't under the line. */
  upTo: number;
}

export class Unread {
  readonly #spans = new Map<string, Span>();

  /** The chat comes to the front. */
  open({ chatId, readSeq, cursor }: ChatState): void {
    this.#spans.set(chatId, { after: readSeq, upTo: cursor.head });
  }

  /** A message came while nobody looked at the page. Opens a new line if the one before has been read. */
  missed({ chatId, readSeq }: ChatState, seq: number): void {
    const span = this.#spans.get(chatId);
    if (span !== undefined && readSeq >= span.upTo) this.#spans.set(chatId, { after: seq - 1, upTo: seq });
  }

  /** Whoever answers has seen what is new. */
  clear(chatId: string): void {
    this.#spans.delete(chatId);
  }

  /** The first message under the line, if all between are loaded. */
  from({ chatId, log }: ChatState, me: string): number | null {
    const span = this.#spans.get(chatId);
    if (span === undefined || span.after >= span.upTo || (log.hasMoreBefore && log.floor > span.after + 1)) return null;
    const first = log.messages.find(
      ({ message_seq, sender_id, deleted_at }) => message_seq > span.after && sender_id !== me && deleted_at === null,
    );
    return first !== undefined && first.message_seq <= span.upTo ? first.message_seq : null;
  }
}
