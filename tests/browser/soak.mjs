// What takes too long for every change: `./build.sh bench soak` runs it, whole or in parts. Ends with status 1 if anything was not as it must be.
//
//   node tests/browser/soak.mjs [--seeds 200] [--first 1] [--size 64] [--kills 20] [--full FILE] [--flat MINUTES] [--minutes M] [--json FILE]
//
// --seeds N   N downloads of a file of `--size` MB in the worlds that the seeds from `--first` on make (fault-worlds.mjs)
// --kills N   N such downloads during which the browser is killed, at random moments
// --full FILE a model of full size downloads once, survives a kill, loads, and starts again from storage
// --flat M    M minutes of load, chat and free on the demo model, and what becomes of the renderer's memory
// --minutes M no part of those begins another round after so many; how many rounds it came to is said
import { createHash } from 'node:crypto';
import { open, stat } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { needChromium, writeJson } from './bench-options.mjs';
import { serveFaulty } from './fault-server.mjs';
import { endure, world } from './fault-worlds.mjs';
import { chance } from './faults.mjs';
import { interruptAndResume } from './interruptions.mjs';
import { mostResident } from './resident.mjs';
import { Scene, modelOf } from './scene.mjs';

const MIB = 1 << 20;
/** A profile is thrown away after so many downloads. */
const DOWNLOADS = 25;
/** Renderers grow for a while: heaps find their sizes, code is compiled. So many tenths of the time do not count. */
const WARM_UP = 2;
/** Most that a renderer may have grown after that, bytes. */
const FLAT = 32 * MIB;

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '200' },
    first: { type: 'string', default: '1' },
    size: { type: 'string', default: '64' },
    kills: { type: 'string', default: '20' },
    full: { type: 'string' },
    flat: { type: 'string', default: '0' },
    minutes: { type: 'string', default: 'Infinity' },
    json: { type: 'string' },
  },
});
const size = Number(values.size) * 1e6;
const limitMs = Number(values.minutes) * 60_000;
needChromium();

/** @type {string[]} */
const failures = [];
/** @param {string} what @param {unknown} error */
function failed(what, error) {
  failures.push(`${what}: ${error instanceof Error ? error.message : error}`);
  console.error(`FAILED ${failures.at(-1)}`);
}
const sum = (/** @type {number[]} */ list) => list.reduce((a, b) => a + b, 0);

/** @param {number} n @param {number} first */
async function seeds(n, first) {
  const began = performance.now();
  /** @type {Awaited<ReturnType<typeof endure>>[]} */
  const runs = [];
  let tried = 0;
  /** @type {Scene | null} */
  let scene = null;
  for (; tried < n && performance.now() - began < limitMs; tried++) {
    if (tried % DOWNLOADS === 0) {
      await scene?.close();
      scene = await Scene.open();
    }
    const one = world(first + tried, size, [256 << 10, 512 << 10, MIB, 2 * MIB]);
    const visit = await /** @type {Scene} */ (scene).visit();
    try {
      const run = await endure(visit, one);
      runs.push(run);
      console.log(`${String(one.seed).padStart(4)} ${run.outcome}, ${run.faults} faults in ${run.requests} requests, ${run.again} bytes again, ${(run.ms / 1000).toFixed(1)} s: ${one.words}`);
    } catch (error) {
      failed(`seed ${one.seed} (${one.words})`, error);
      await visit.ask({ type: 'delete', model: `${visit.scene.site.url}faulty/${one.seed}/model.gguf` }).catch(() => {});
    }
    await visit.close();
  }
  await scene?.close();
  const count = (/** @type {string} */ outcome) => runs.filter((run) => run.outcome === outcome).length;
  return {
    asked: n,
    tried,
    bytes: size,
    identical: count('identical'),
    caught: count('caught'),
    unnoticed: count('unnoticed'),
    failed: tried - runs.length,
    requests: sum(runs.map(({ requests }) => requests)),
    faults: sum(runs.map(({ faults }) => faults)),
    broken: sum(runs.map(({ broken }) => broken)),
    again: sum(runs.map(({ again }) => again)),
    changed: runs.filter(({ words }) => words.includes('another file')).length,
    minutes: (performance.now() - began) / 60_000,
    runs,
  };
}

/** A scene and the visit that is open in it, as `interruptAndResume` wants it. @param {Scene} scene */
async function stageOf(scene) {
  const stage = {
    scene,
    visit: await scene.visit(),
    revisit: async () => {
      await stage.visit.close().catch(() => {});
      return (stage.visit = await scene.visit());
    },
  };
  return stage;
}

/** @param {number} n */
async function kills(n) {
  const began = performance.now();
  const runs = [];
  let tried = 0;
  for (; tried < n && performance.now() - began < limitMs; tried++) {
    const scene = await Scene.open();
    const body = modelOf(size, tried);
    const { file, url, close } = await serveFaulty({ body, bytesPerSecond: 20e6 });
    try {
      const run = await interruptAndResume(await stageOf(scene), { file, url, body, how: 'kill', at: chance(20, tried), download: { chunk_bytes: MIB } });
      runs.push(run);
      console.log(`kill ${tried + 1} after ${Math.round(run.at * 100)} %: ${(run.sent / 1e6).toFixed(1)} MB sent, ${(run.stored / 1e6).toFixed(1)} MB stored, ${(run.again / 1e6).toFixed(1)} MB came again`);
    } catch (error) {
      failed(`kill ${tried + 1}`, error);
    }
    await scene.close();
    await close();
  }
  return { asked: n, tried, resumed: runs.length, most_again: Math.max(0, ...runs.map(({ again }) => again)), chunk_bytes: MIB, runs };
}

/** @param {string} model */
async function full(model) {
  const { size } = await stat(model);
  const scene = await Scene.open();
  const { file, url, close } = await serveFaulty({ body: path.resolve(model), bytesPerSecond: 60e6 });
  try {
    const stage = await stageOf(scene);
    const at = 0.2 + 0.6 * chance(Date.now());
    const run = await interruptAndResume(stage, { file, url, body: null, how: 'kill', at, download: {}, options: { n_ctx: 256 } });
    console.log(`killed after ${Math.round(at * 100)} %, ${(run.stored / 1e6).toFixed(0)} MB were stored; ${(run.again / 1e6).toFixed(1)} MB of ${(size / 1e6).toFixed(0)} came twice`);
    await stage.visit.ask({ type: 'free' });
    const { manifest, chunks } = await stage.visit.contents(url);
    const wrong = await differing(model, manifest.chunk_bytes, chunks);
    if (wrong.length) throw new Error(`stored chunks ${wrong} are not the file's`);
    const asked = file.log.length;
    await stage.revisit();
    const began = performance.now();
    const { value, error } = await stage.visit.load(url, { n_ctx: 256 });
    if (error) throw new Error(`${error.code}: ${error.message}`);
    const warm_ms = performance.now() - began;
    const reply = await stage.visit.ask({ type: 'chat', request: { messages: [{ role: 'user', content: 'Hi' }], max_tokens: 2, temperature: 0 } });
    if (reply.error) throw new Error(`${reply.error.code}: ${reply.error.message}`);
    if (file.log.length !== asked || value.source.kind !== 'cache') throw new Error('the warm start asked for the model');
    console.log(`warm start in ${(warm_ms / 1000).toFixed(1)} s, ${reply.value.usage.completion_tokens} tokens`);
    return { file: path.basename(model), bytes: size, chunk_bytes: manifest.chunk_bytes, ...run, warm_ms };
  } catch (error) {
    failed('full size', error);
    return null;
  } finally {
    await scene.close();
    await close();
  }
}

/** Chunks that differ from the file's. @param {string} model @param {number} chunkBytes @param {import('./scene.mjs').StoredChunk[]} chunks */
async function differing(model, chunkBytes, chunks) {
  const handle = await open(model);
  const { size } = await handle.stat();
  const wrong = [];
  for (let index = 0; index * chunkBytes < size; index++) {
    const bytes = Buffer.alloc(Math.min(chunkBytes, size - index * chunkBytes));
    await handle.read(bytes, 0, bytes.length, index * chunkBytes);
    if (chunks[index]?.index !== index || chunks[index].sha256 !== createHash('sha256').update(bytes).digest('hex')) wrong.push(index);
  }
  await handle.close();
  return wrong;
}

/** Runs in the page: one cycle, by the API with a worker of its own, or in a worker that lasts. @param {boolean} lasting */
async function cycle(lasting) {
  const model = new URL('/models/demo/granite-demo-Q4_K_M.gguf', location.href).href;
  const messages = [{ role: 'user', content: 'What colour is grass?' }];
  if (!lasting) {
    const { Outcrop } = /** @type {typeof import('../../www/outcrop.js')} */ (await import(new URL('/outcrop.js', location.href).href));
    const outcrop = await Outcrop.load(model, { backend: 'cpu' });
    const { choices } = await outcrop.chat.completions.create({ messages: /** @type {any} */ (messages), temperature: 0, max_tokens: 16 });
    outcrop.free();
    return choices[0].message.content;
  }
  const { EngineWorker } = /** @type {typeof import('../../www/engine.js')} */ (await import(new URL('/engine.js', location.href).href));
  const page = /** @type {{kept?: import('../../www/engine.js').EngineWorker}} */ (globalThis);
  const worker = (page.kept ??= new EngineWorker());
  await worker.request({ type: 'load', options: { url: model, backend: 'cpu' } });
  const { text } = await worker.request({ type: 'chat', request: { messages, temperature: 0, max_tokens: 16 } });
  await worker.request({ type: 'free' });
  return text.replace('<|end_of_text|>', '');
}

/** @param {number} minutes */
async function flat(minutes) {
  const scene = await Scene.open();
  try {
    const page = await scene.context.newPage();
    await page.goto(`${scene.site.url}blank.html`);
    const began = performance.now();
    /** @type {{minute: number, resident: number}[]} */
    const samples = [];
    for (let n = 0; performance.now() - began < minutes * 60_000; n++) {
      const said = await page.evaluate(cycle, n % 2 === 1);
      if (said !== 'Grass is green.') failed(`cycle ${n}`, `it said ${said}`);
      const resident = mostResident('resident');
      if (resident === null) throw new Error('this system does not tell what memory processes have');
      samples.push({ minute: (performance.now() - began) / 60_000, resident });
      if (n % 100 === 0) console.log(`${samples.at(-1)?.minute.toFixed(1)} min, cycle ${n}: ${(resident / 1e6).toFixed(0)} MB`);
    }
    // Garbage comes and goes, hundreds of megabytes of it before a browser collects it. What is never given back shows in the least of a while.
    const least = (/** @type {typeof samples} */ list) => Math.min(...list.map(({ resident }) => resident));
    const most = (/** @type {typeof samples} */ list) => Math.max(...list.map(({ resident }) => resident));
    const tenths = Array.from({ length: 10 }, (_, i) => samples.slice(Math.floor((i * samples.length) / 10), Math.floor(((i + 1) * samples.length) / 10)));
    const [start, end] = [least(tenths[WARM_UP]), least(tenths[9])];
    const result = {
      minutes,
      cycles: samples.length,
      first_bytes: samples[0].resident,
      start_bytes: start,
      end_bytes: end,
      growth_bytes: end - start,
      peak_bytes: mostResident('peak'),
      least_by_tenth: tenths.map(least),
      most_by_tenth: tenths.map(most),
    };
    const mb = (/** @type {number | null} */ bytes) => ((bytes ?? 0) / 1e6).toFixed(1);
    console.log(`${result.cycles} cycles in ${minutes} min: the least is ${mb(start)} MB after the warm-up and ${mb(end)} MB in the end; at most ${mb(result.peak_bytes)} MB with what was not yet collected`);
    if (result.growth_bytes > FLAT) failed('flat', `the renderer grew by ${result.growth_bytes} bytes`);
    return result;
  } catch (error) {
    failed('flat', error);
    return null;
  } finally {
    await scene.close();
  }
}

/** @type {Record<string, unknown>} */
const report = {};
if (Number(values.seeds)) report.seeds = await seeds(Number(values.seeds), Number(values.first));
if (Number(values.kills)) report.kills = await kills(Number(values.kills));
if (values.full) report.full = await full(values.full);
if (Number(values.flat)) report.flat = await flat(Number(values.flat));
report.failures = failures;
writeJson(values.json, report);
const { seeds: s, kills: k } = /** @type {any} */ (report);
if (s) console.log(`\n${s.tried} of ${s.asked} downloads of ${size / 1e6} MB: ${s.identical} identical, ${s.caught} caught by a digest, ${s.unnoticed} wrong without one, ${s.failed} failed; ${s.faults} faults in ${s.requests} requests, ${(s.again / 1e6).toFixed(1)} MB came again, ${s.changed} files changed; ${s.minutes.toFixed(1)} min`);
if (k) console.log(`${k.resumed} of ${k.tried} kills resumed, at most ${(k.most_again / 1e6).toFixed(1)} MB came again`);
if (failures.length) {
  console.error(`\n${failures.length} failures:\n${failures.join('\n')}`);
  process.exit(1);
}
