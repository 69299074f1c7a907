// What a visitor downloads before the model, against a budget. A change that goes over it says why and moves the budget, or shrinks.
import { readFileSync } from 'node:fs';
import { brotliCompressSync, gzipSync } from 'node:zlib';

/** Brotli bytes of each file; engine and glue are what `www/pkg` holds after wasm-opt. */
const BUDGET = JSON.parse(readFileSync(new URL('size-budget.json', import.meta.url), 'utf8'));

let over = false;
console.log(`${'file'.padEnd(28)}${['raw', 'gzip', 'brotli', 'budget'].map((title) => title.padStart(12)).join('')}`);
for (const [file, budget] of Object.entries(BUDGET)) {
  const bytes = readFileSync(new URL(`../${file}`, import.meta.url));
  const brotli = brotliCompressSync(bytes).length;
  console.log(`${file.padEnd(28)}${[bytes.length, gzipSync(bytes, { level: 9 }).length, brotli, budget].map((n) => String(n).padStart(12)).join('')}`);
  over ||= brotli > budget;
}
if (over) {
  console.error('Over the budget in tests/size-budget.json');
  process.exitCode = 1;
}
