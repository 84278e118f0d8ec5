import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

/** One module without dependencies: what bundlers take, and what a page imports as it is. */
export default defineConfig({
  root: fileURLToPath(new URL('.', import.meta.url)),
  build: {
    lib: { entry: 'src/index.ts', formats: ['es'], fileName: 'index' },
    target: 'es2022',
    minify: true,
    emptyOutDir: true,
  },
});
