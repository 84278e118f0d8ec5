// A conversation through the client that openapi-typescript and openapi-fetch make of /openapi.json.
//
// Usage: node conversation.js <address> <token of alice> <token of bob>. Prints one JSON line.
import createClient from 'openapi-fetch';
import type { components, paths } from './schema.js';

type Message = components['schemas']['Message'];

const [address, alice, bob] = process.argv.slice(2) as [string, string, string];
const as = (token: string) =>
  createClient<paths>({ baseUrl: address, headers: { authorization: `Bearer ${token}` } });
const [here, there] = [as(alice), as(bob)];

function need<T>(what: string, value: T | undefined): T {
  if (value === undefined) throw new Error(`no ${what}`);
  return value;
}

const isMessage = (sent: components['schemas']['Sent']): sent is Message => 'content' in sent;

const me = need('person', (await there.GET('/v1/users/me')).data);
const chat = need('chat', (await here.POST('/v1/chats', { body: { name: 'Lunch', member_ids: [me.user_id] } })).data);
const path = { chat_id: chat.chat_id };
const sent = need('answer', (await here.POST('/v1/chats/{chat_id}/messages', {
  params: { path, header: { 'Idempotency-Key': `once-${chat.chat_id}` } },
  body: { content: 'Noon?' },
})).data);
if (!('seq' in sent) || !isMessage(sent)) throw new Error('the sender sees the message');

const page = need('page', (await there.GET('/v1/chats/{chat_id}/messages', { params: { path } })).data);
const asked = need('question', page.messages[0]);
await there.POST('/v1/chats/{chat_id}/messages', {
  params: { path },
  body: { content: 'Yes', parent_message_id: asked.message_id },
});
await there.PATCH('/v1/chats/{chat_id}/members/{user_id}', {
  params: { path: { ...path, user_id: me.user_id } },
  body: { role: 'admin' },
}).then(({ error }) => {
  if (error?.code !== 'forbidden') throw new Error(`a member gives no roles: ${JSON.stringify(error)}`);
});
const edited = need('edit', (await here.PATCH('/v1/chats/{chat_id}/messages/{message_id}', {
  params: { path: { ...path, message_id: sent.message_id } },
  body: { content: 'Half past twelve?' },
})).data);
const all = need('page', (await here.GET('/v1/chats/{chat_id}/messages', { params: { path } })).data);
const { error } = await here.GET('/v1/chats/{chat_id}', { params: { path: { chat_id: 'nowhere' } } });
console.log(JSON.stringify({
  said: all.messages.map(({ content }) => content),
  edited: edited.edited_at !== null,
  unread: need('list', (await here.GET('/v1/chats')).data).chats[0]?.unread_count,
  refused: error?.code,
}));
