import { fileURLToPath } from 'node:url';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';

const server = process.env.WALTALKIE_URL ?? 'http://127.0.0.1:8080';

export default defineConfig({
  root: fileURLToPath(new URL('.', import.meta.url)),
  plugins: [svelte()],
  resolve: {
    // From source, so that a change in the core shows without building it first.
    alias: { '@waltalkie/client': fileURLToPath(new URL('../client/src/index.ts', import.meta.url)) },
  },
  build: {
    outDir: '../dist',
    emptyOutDir: true,
    target: 'es2022',
    // A content security policy without `data:` must do.
    assetsInlineLimit: 0,
    modulePreload: false,
  },
  server: { proxy: { '/v1': { target: server, ws: true, changeOrigin: true } } },
});
