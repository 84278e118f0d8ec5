/**
 * Of which messages the application itself gives signs: what the notifier's `decide.rs` calls `in_app`, and leaves to clients, which
 * have messages, marks and settings anyway. Both are held against one table, `notify/tests/tables/decisions.txt`. Pure.
 */
import type { ChatState, MessageState, NotificationSettings } from '@waltalkie/client';
import { isNamed, namesAll } from './mentions.ts';
import { isQuiet } from './quiet.ts';
import { mayManage } from './roles.ts';

/** Whose page it is. */
export interface Reader {
  id: string;
  name: string;
}

/** How many unread messages of a chat the person wants signs of: all, those that name them as far as they are loaded, or none. */
export function wantedUnread(chat: ChatState, settings: NotificationSettings, reader: Reader): number {
  if (chat.unread === 0 || settings.muted_chat_ids.includes(chat.chatId)) return 0;
  if (!settings.mentions_only_chat_ids.includes(chat.chatId)) return chat.unread;
  return chat.log.messages.filter((message) => isUnread(message, chat, reader) && isMention(message, chat, reader)).length;
}

/** What the title and the badge count. Do-not-disturb hours don't stop it: a number disturbs nobody. */
export function countedUnread(chats: readonly ChatState[], settings: NotificationSettings, reader: Reader): number {
  return settings.in_app ? chats.reduce((sum, chat) => sum + wantedUnread(chat, settings, reader), 0) : 0;
}

/** Whether screen readers are told of a new message. */
export function isAnnounced(message: MessageState, chat: ChatState, settings: NotificationSettings, reader: Reader, nowMs: number): boolean {
  if (!settings.in_app || !isUnread(message, chat, reader) || isQuiet(settings.do_not_disturb, nowMs)) return false;
  if (settings.muted_chat_ids.includes(chat.chatId)) return false;
  return !settings.mentions_only_chat_ids.includes(chat.chatId) || isMention(message, chat, reader);
}

function isUnread({ sender_id, deleted_at, message_seq }: MessageState, { readSeq }: ChatState, { id }: Reader): boolean {
  return sender_id !== id && deleted_at === null && message_seq > readSeq;
}

/** An `@all` counts if its sender is known to be an admin or owner: members come by pages, once a chat is opened. */
function isMention({ content, sender_id }: MessageState, { members }: ChatState, reader: Reader): boolean {
  const text = content ?? '';
  return isNamed(text, reader) || (namesAll(text) && mayManage(members.get(sender_id) ?? 'member'));
}
