// What the benchmarks share: the command line of those of the CPU, and what becomes of their figures.
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { skipWithout } from './harness.mjs';

/** Ends a benchmark that has no Chromium to run in. */
export function needChromium() {
  if (skipWithout('chromium')) process.exit(process.env.CI ? 1 : 0);
}

/** `[--model M.gguf] [--threads 1,2] [--prompt 128] [--tokens 24] [--repeats 5] [--json FILE]` of the command line. */
export function cpuOptions() {
  const { values } = parseArgs({
    options: {
      model: { type: 'string', default: 'target/h-350m.gguf' },
      threads: { type: 'string', default: '1,2' },
      prompt: { type: 'string', default: '128' },
      tokens: { type: 'string', default: '24' },
      repeats: { type: 'string', default: '5' },
      json: { type: 'string' },
    },
  });
  const { model, threads, json } = values;
  const [prompt, tokens, repeats] = [values.prompt, values.tokens, values.repeats].map(Number);
  return { model, threads: threads.split(',').map(Number), prompt, tokens, repeats, json };
}

/** @param {string | undefined} file where to, if anywhere @param {object} report */
export function writeJson(file, report) {
  if (file) writeFileSync(file, `${JSON.stringify(report, null, 2)}\n`);
}

/** The middle one; of two the larger. @param {number[]} list */
export const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];
