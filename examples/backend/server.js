/**
 * An application's backend: it knows its people, mints their tokens for Waltalkie, and keeps the chat they share.
 *
 * WALTALKIE_URL                  the server, as browsers reach it
 * WALTALKIE_AUTH__HS256_SECRET   the key of development; elsewhere sign with your own, see docs/auth.md
 * PORT                           3000 by default
 */
import { SignJWT } from 'jose';
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';

const { WALTALKIE_URL: url, WALTALKIE_AUTH__HS256_SECRET: secret, PORT: port = '3000' } = process.env;
if (!url || !secret) throw new Error('WALTALKIE_URL or WALTALKIE_AUTH__HS256_SECRET is not set: see README.md');
const key = new TextEncoder().encode(secret);
const page = await readFile(new URL('../page/index.html', import.meta.url));
const client = await readFile(new URL(import.meta.resolve('@waltalkie/client')));
const login = `<!doctype html><title>Log in</title>
  <form method="post"><input name="name" aria-label="Name" pattern="[a-z]{1,32}" required> <button>Log in</button></form>`;

/** Who is logged in, by the secret in their cookie. Yours has passwords, and keeps this elsewhere. */
const people = new Map();

function personOf({ headers }) {
  return people.get(/session=([^;]+)/.exec(headers.cookie ?? '')?.[1]);
}

/** A token says who somebody is. Short: pages ask for the next one by themselves. */
function mint(claims) {
  return new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).setIssuedAt().setExpirationTime('15m').sign(key);
}

/** Asks Waltalkie as the application itself. */
async function ask(path, body) {
  const token = await mint({ sub: 'example-backend', typ: 'service', scope: 'users:write chats:write' });
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  const answer = await fetch(new URL(path, url), { method: 'PUT', headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
}

const routes = {
  'GET /': (request) => (personOf(request) ? [200, { 'content-type': 'text/html' }, page] : [303, { location: '/login' }, '']),
  'GET /client.js': () => [200, { 'content-type': 'text/javascript' }, client],
  'GET /login': () => [200, { 'content-type': 'text/html' }, login],
  'POST /login': async (request) => {
    const name = new URLSearchParams(await text(request)).get('name') ?? '';
    if (!/^[a-z]{1,32}$/.test(name)) return [400, {}, 'A name has 1 to 32 of a-z.'];
    await ask(`/v1/users/${name}`, { name });
    await ask('/v1/chats/lobby', { members: [{ user_id: name }] });
    const cookie = randomUUID();
    people.set(cookie, name);
    return [303, { location: '/', 'set-cookie': `session=${cookie}; HttpOnly; SameSite=Strict` }, ''];
  },
  'POST /session': async (request) => {
    const name = personOf(request);
    if (name === undefined) return [401, {}, ''];
    return [200, { 'content-type': 'application/json' }, JSON.stringify({ url, token: await mint({ sub: name, name }) })];
  },
};

await ask('/v1/chats/lobby', { name: 'Lobby', members: [] });
const server = createServer(async (request, response) => {
  try {
    const route = routes[`${request.method} ${request.url}`];
    const [status, headers, body] = route ? await route(request) : [404, {}, ''];
    response.writeHead(status, headers).end(body);
  } catch (error) {
    console.error(error);
    response.writeHead(500).end();
  }
});
server.listen(Number(port), '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));
