/** What a server in development mode gives without a token. Elsewhere each is a 404: tokens come from the application. */
import { call } from './http.ts';
import type { Person } from './api.ts';

/** A token for one of the demonstration people, or anybody else. */
export async function developmentToken(url: string, userId: string): Promise<string> {
  return (await call<{ token: string }>(url, 'POST', 'v1/dev/token', { body: { user_id: userId } })).token;
}

/** The demonstration people. */
export async function developmentPeople(url: string): Promise<Person[]> {
  return (await call<{ users: Person[] }>(url, 'GET', 'v1/dev/users', {})).users;
}
