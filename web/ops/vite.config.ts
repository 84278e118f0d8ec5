import { fileURLToPath } from 'node:url';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';

const server = process.env.WALTALKIE_OPS_URL ?? 'http://127.0.0.1:8090';

/** A folder of its own: what the public listener serves has nothing of it. */
export default defineConfig({
  root: fileURLToPath(new URL('.', import.meta.url)),
  base: '/ops/',
  plugins: [svelte()],
  build: {
    outDir: 'dist',
    emptyOutDir: true,
    target: 'es2022',
    // A content security policy without `data:` must do.
    assetsInlineLimit: 0,
    modulePreload: false,
  },
  server: { proxy: { '/ops/data.json': { target: server, changeOrigin: true } } },
});
