// @ts-check
// A helper of the engine's CPU backend, started by threads.js: an instance of the engine's module over the engine's memory, which
// never returns from `help`.

import init, { help } from "./pkg/outcrop-cpu.js";

/** What pool.rs calls FAILED. */
const FAILED = 6;

self.addEventListener(
  "message",
  async (/** @type {MessageEvent<{i: number, module: WebAssembly.Module, memory: WebAssembly.Memory, word: number}>} */ { data }) => {
    try {
      await init({ module_or_path: data.module, memory: data.memory });
      self.postMessage({ type: "ready" });
      help(data.i);
    } catch (error) {
      // The engine may be waiting for this share. It waits in naps: this need not wake it.
      Atomics.store(new Int32Array(data.memory.buffer), data.word >> 2, FAILED);
      const panic = /** @type {any} */ (globalThis).outcropPanic; // left by the panic hook in api.rs
      self.postMessage({ type: "failed", message: panic ?? (error instanceof Error ? error.message : String(error)) });
    }
  },
  { once: true },
);
