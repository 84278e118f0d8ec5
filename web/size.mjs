/** Says what the built client weighs gzipped, and fails over the limit. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const LIMIT_BYTES = 120_000;
const dist = new URL('dist', import.meta.url).pathname;
let total = 0;
for (const entry of readdirSync(dist, { recursive: true, withFileTypes: true })) {
  if (entry.isFile()) total += gzipSync(readFileSync(join(entry.parentPath ?? entry.path, entry.name)), { level: 9 }).length;
}
console.log(`${total} bytes gzipped, of ${LIMIT_BYTES} allowed`);
if (total > LIMIT_BYTES) process.exitCode = 1;
