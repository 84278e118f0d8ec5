/** What an application needs. */
export { connect, Client, type ClientOptions, type SendOptions } from './client.ts';
export type { Events } from './events.ts';
export { WaltalkieError } from './http.ts';
export { developmentPeople, developmentToken } from './development.ts';
export { newId } from './ids.ts';
export type {
  Api, Device, DoNotDisturb, Media, NewDevice, NotificationChanges, NotificationOptions, NotificationSettings, Person, Settings,
  UploadUrls,
} from './api.ts';
export { isTemporary, upload, type CancelSignal, type UploadFile, type UploadOptions, type UploadStep } from './upload.ts';
export { ChatState, seqOf, type ChatRow, type Delivery, type LastMessage, type MemberRow, type Note, type Sequenced } from './chat-state.ts';
export type { Attachment, ChatEvent, Hello, Marked, Membership, MessageEvent, MessageState, Presence, Way } from './frames.ts';
export type { HistoryPage, Message, MessageLog } from './message-log.ts';
export type { Command, Entry, OutboxChanges, Phase, Trail } from './outbox.ts';
export type { Loading, Pages } from './pages.ts';
export type { Connection } from './socket.ts';

/** The sync core alone, for whoever drives it otherwise. */
export { Session, type Effect, type SessionOptions } from './session.ts';
export { decodeFrame, type ClientFrame, type ServerFrame } from './frames.ts';
