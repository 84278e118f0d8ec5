/** The JSON frames of `waltalkie.v1`: their types, and the one place where text becomes a frame. */

/** From-to pairs of `seq` that a member may see; an open end is `null`. */
export type Visible = [from: number, to: number | null][];

/** One chat as `chats` frames announce it. */
export interface ChatHead {
  chat_id: string;
  head_seq: number;
  delivered_seq: number;
  read_seq: number;
  visible: Visible;
}

/** Where an event has been, told in development only. Parts are missing if it was read from Postgres. */
export interface Way {
  commit_lsn?: string;
  ordinal?: number;
  partition?: number;
  offset?: number;
  occurred_at?: string;
  relayed_at?: string;
}

/** A file of a message. `Api.media` gives URLs of it. */
export interface Attachment {
  media_id: string;
  kind: 'image' | 'video' | 'audio' | 'file' | (string & {});
  file_name: string;
  content_type: string;
  size_bytes: number;
  width_px: number | null;
  height_px: number | null;
  duration_ms: number | null;
  /** ThumbHash in Base64. */
  thumbhash: string | null;
}

/** A message's full state, as events and history pages carry it. */
export interface MessageState {
  chat_id: string;
  message_id: string;
  message_seq: number;
  sender_id: string;
  /** Empty where the message is its files alone. */
  content: string | null;
  attachments?: readonly Attachment[];
  parent_message_id: string | null;
  parent_seq: number | null;
  app_data: Record<string, unknown> | null;
  created_at: string;
  edited_at: string | null;
  deleted_at: string | null;
}

/** The payload of `message`, `message_edited` and `message_deleted`. */
export interface MessageEvent extends MessageState {
  seq: number;
  actor_id?: string;
  way?: Way;
}

/** One person's membership after an event. */
export interface Membership {
  user_id: string;
  role: string;
  joined_seq: number;
  left_seq: number | null;
  visible_from_seq: number;
}

/** The payload of the member and chat events. Which parts are set depends on the event. */
export interface ChatEvent {
  chat_id: string;
  seq: number;
  actor_id?: string;
  occurred_at?: string;
  memberships?: Membership[];
  name?: string | null;
  is_group?: boolean;
  deleted_shown_as?: string;
  history_for_new_members?: boolean;
}

/** How far one person has received and read a chat. */
export interface Marked {
  delivered_seq: number;
  read_seq: number;
}

/** Where a person is. */
export interface Presence {
  state: 'online' | 'offline';
  /** Only of who is offline, and not of everybody. */
  last_seen_at: string | null;
}

/** Why a command was refused. */
export interface Refusal {
  code: string;
  message: string;
  temporary: boolean;
  retry_after_ms?: number;
  chat_id?: string;
  message_id?: string;
}

/** `hello`: the first frame of each connection. */
export interface Hello {
  session_id: string;
  user_id: string;
  heartbeat_ms: number;
  epoch: string | number;
  limits: { content_bytes: number; frame_bytes: number; attachments?: number };
  development: boolean;
}

interface Payloads {
  hello: Hello;
  chats: { chats: ChatHead[]; complete: boolean };
  ack: { chat_id?: string; message_id?: string; state: 'accepted' | 'persisted'; seq?: number };
  error: Refusal;
  message: MessageEvent;
  message_edited: MessageEvent;
  message_deleted: MessageEvent;
  member_joined: ChatEvent;
  member_left: ChatEvent;
  member_updated: ChatEvent;
  chat_created: ChatEvent;
  chat_updated: ChatEvent;
  skipped: { chat_id: string; from_seq: number; to_seq: number };
  heads: Record<string, number>;
  receipt: { chat_id: string; users?: Record<string, Marked> };
  resumed: { chat_id: string; from_seq: number; to_seq: number; complete: boolean };
  typing: { chat_id: string; user_id: string };
  presence: { chat_id: string; users: Record<string, Presence> };
  token_expiring: { expires_at: string };
  reconnect: { after_ms: number };
}

/** An event of a type that this client doesn't know. If it has a `seq`, that still counts. */
export interface UnknownFrame {
  event: 'unknown';
  payload: { chat_id?: string; seq?: number };
  id?: string;
}

/** Any frame that the server sends. */
export type ServerFrame =
  | { [E in keyof Payloads]: { event: E; id?: string; payload: Payloads[E] } }[keyof Payloads]
  | UnknownFrame;

/** Any frame that the client sends. */
export interface ClientFrame {
  event: string;
  id?: string;
  payload: Record<string, unknown>;
}

const KNOWN: ReadonlySet<string> = new Set<keyof Payloads>([
  'hello', 'chats', 'ack', 'error', 'message', 'message_edited', 'message_deleted', 'member_joined',
  'member_left', 'member_updated', 'chat_created', 'chat_updated', 'skipped', 'heads', 'receipt',
  'resumed', 'typing', 'presence', 'token_expiring', 'reconnect',
]);

/** Reads one text frame. Gives `null` for what is no frame at all, so that one bad frame ends nothing. */
export function decodeFrame(text: string): ServerFrame | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== 'object' || value === null) return null;
  const { event, id, payload } = value as { event?: unknown; id?: unknown; payload?: unknown };
  if (typeof event !== 'string') return null;
  const body = typeof payload === 'object' && payload !== null ? payload : {};
  const frame = {
    event: KNOWN.has(event) ? event : 'unknown',
    payload: body,
    ...(typeof id === 'string' ? { id } : {}),
  };
  return frame as ServerFrame;
}
