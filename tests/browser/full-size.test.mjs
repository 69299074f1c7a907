// A model of a published one's shapes, Q4_K_M, in Chromium on the GPU: it answers, starts again from IndexedDB without a server, and
// neither the engine's memory nor the JavaScript heaps come near its size. `./build.sh test` makes the file.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import { LIMITS, fullSize } from './full-size.mjs';
import { skipWithout } from './harness.mjs';

const file = fileURLToPath(new URL('../../target/h-350m.gguf', import.meta.url));

test('h-350m within the memory that is allowed', { skip: skipWithout('chromium'), timeout: 600_000 }, async () => {
  assert.ok(existsSync(file), `${file} is missing: ./build.sh test web makes it`);
  const { cold, warm, heap_bytes, js } = await fullSize(file, 2);
  console.log(`first token ${Math.round(cold.first_token_ms)} ms cold, ${Math.round(warm.first_token_ms)} ms warm`);
  console.log(`engine ${(heap_bytes / 1e6).toFixed(1)} MB, JavaScript ${(js.used / 1e6).toFixed(1)} MB and ${(js.backing / 1e6).toFixed(1)} MB in buffers`);
  assert.deepEqual([cold.source, warm.source], ['network', 'cache']);
  assert.equal(cold.backend, 'webgpu');
  assert.equal(cold.tokens, 2);
  assert.equal(warm.text, cold.text);
  assert.ok(heap_bytes <= LIMITS.heap, `the engine took ${heap_bytes} bytes`);
  assert.ok(js.used + js.backing <= LIMITS.js, `JavaScript took ${js.used} + ${js.backing} bytes`);
  // A watch that sees nothing would pass as well.
  assert.ok(js.samples > 5 && js.workers >= 1 && js.used > 1e6, JSON.stringify(js));
});
