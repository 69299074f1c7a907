// What memory the renderers of a browser that this process started have, as the system tells it: Linux's /proc, and nothing elsewhere.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';

/** Renderers among this process's descendants; null where the system does not tell. @returns {{pid: number, resident: number, peak: number}[] | null} bytes */
export function renderers() {
  /** @type {Map<number, {parent: number, resident: number, peak: number, renderer: boolean}>} */
  const processes = new Map();
  try {
    for (const name of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      try {
        const status = readFileSync(`/proc/${name}/status`, 'utf8');
        const field = (/** @type {string} */ key) => Number(new RegExp(`^${key}:\\s*(\\d+)`, 'm').exec(status)?.[1] ?? 0);
        const renderer = readFileSync(`/proc/${name}/cmdline`, 'utf8').includes('--type=renderer');
        processes.set(Number(name), { parent: field('PPid'), resident: field('VmRSS') * 1024, peak: field('VmHWM') * 1024, renderer });
      } catch {
        // it has ended
      }
    }
  } catch {
    return null;
  }
  const found = [];
  for (const [pid, { parent: first, resident, peak, renderer }] of processes) {
    let parent = first;
    while (parent > 1 && parent !== process.pid) parent = processes.get(parent)?.parent ?? 0;
    if (renderer && parent === process.pid) found.push({ pid, resident, peak });
  }
  return found;
}

/** Most memory that one of them has, or since `forgetPeaks` had, resident, bytes. @param {'resident' | 'peak'} which */
export function mostResident(which) {
  const all = renderers();
  return all && Math.max(0, ...all.map((one) => one[which]));
}

/** Peaks begin anew. */
export function forgetPeaks() {
  for (const { pid } of renderers() ?? []) writeFileSync(`/proc/${pid}/clear_refs`, '5');
}
