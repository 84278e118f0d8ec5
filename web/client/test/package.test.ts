/** What `npm pack` makes: it can be installed, imported and type-checked where nothing else is. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const web = fileURLToPath(new URL('../../../', import.meta.url));

const PROGRAM = `
import { connect, developmentToken, WaltalkieError, type Client, type Connection } from '@waltalkie/client';

export function start(url: string): Client {
  const client = connect({ url, getToken: () => developmentToken(url, 'alice') });
  client.on('message', ({ chat_id, content }) => void client.send(chat_id, content ?? '').then(({ seq }) => seq.toFixed()));
  client.on('member_joined', ({ memberships }) => memberships?.map(({ role }) => role));
  client.on('state', (connection: Connection) => connection.state === 'stopped' && connection.code);
  // @ts-expect-error there is no such event
  client.on('mesage', () => undefined);
  return client;
}
export const code = (error: unknown): string | null => (error instanceof WaltalkieError ? error.code : null);
`;

test('the package can be installed, imported and type-checked by itself', () => {
  const folder = mkdtempSync(join(tmpdir(), 'waltalkie-client-'));
  try {
    execFileSync('npm', ['pack', '--silent', '--pack-destination', folder], { cwd: join(web, 'client'), stdio: 'pipe' });
    const [tarball] = readdirSync(folder);
    const installed = join(folder, 'node_modules/@waltalkie/client');
    mkdirSync(installed, { recursive: true });
    execFileSync('tar', ['-xzf', join(folder, tarball!), '-C', installed, '--strip-components=1']);
    const files = readdirSync(installed, { recursive: true }).map(String);
    for (const file of ['README.md', 'package.json', 'dist/index.js', 'dist/index.d.ts', 'dist/LICENSE-MIT']) assert.ok(files.includes(file), file);
    assert.ok(!files.some((file) => /(^|\/)(src|test)\//.test(file)), 'nothing else');

    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
    writeFileSync(join(folder, 'program.ts'), PROGRAM);
    const tsc = join(web, 'node_modules/typescript/bin/tsc');
    const options = ['--strict', '--noUncheckedIndexedAccess', '--module', 'nodenext', '--target', 'es2022', '--lib', 'es2022'];
    execFileSync(process.execPath, [tsc, ...options, 'program.ts'], { cwd: folder, encoding: 'utf8' });
    execFileSync(process.execPath, ['--eval', "import('./program.js').then(({ start }) => { if (typeof start !== 'function') process.exit(1); })"], { cwd: folder });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
