/** Says what the built pages and the built package weigh gzipped, and fails over a limit. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

/** All files of a page are loaded, but for icons, which whoever installs it asks for; of the package only its code is. */
const BUILT = [
  { name: 'page', folder: 'dist', loads: (file) => !file.endsWith('.png'), limitBytes: 120_000 },
  { name: 'pipeline page', folder: 'ops/dist', loads: () => true, limitBytes: 40_000 },
  { name: 'package', folder: 'client/dist', loads: (file) => file.endsWith('.js'), limitBytes: 20_000 },
];

for (const { name, folder, loads, limitBytes } of BUILT) {
  const entries = readdirSync(fileURLToPath(new URL(folder, import.meta.url)), { recursive: true, withFileTypes: true });
  let total = 0;
  for (const entry of entries) {
    if (entry.isFile() && loads(entry.name)) total += gzipSync(readFileSync(join(entry.parentPath ?? entry.path, entry.name)), { level: 9 }).length;
  }
  console.log(`${name}: ${total} bytes gzipped, of ${limitBytes} allowed`);
  if (total === 0 || total > limitBytes) process.exitCode = 1;
}
