// Where the tests of downloads play: a scene for all tests of a file, a visit for each, faulty files of either origin, and loads whose waits are short.
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach } from 'node:test';
import { FaultyFile, serveFaulty } from './fault-server.mjs';
import { SPEEDUP } from './fault-worlds.mjs';
import { Scene, modelOf } from './scene.mjs';

export const CHUNK = 256 << 10;
/** Chunks of `body`; the last one is half a one. */
export const N = 16;
export const body = modelOf(N * CHUNK - CHUNK / 2);

/** What pages report of requests that fail, which is what these tests are about. */
export const EXPECTED = /Failed to load resource|net::ERR_|CORS policy/;

export class Stage {
  /** @type {Scene} */
  scene = /** @type {any} */ (null);
  /** @type {import('./scene.mjs').Visit} */
  visit = /** @type {any} */ (null);
  /** @type {(() => Promise<unknown>)[]} what ends with the test */
  ends = [];
  #served = 0;

  /** A faulty file, of the page's origin or of another. @param {Partial<import('./fault-server.mjs').Options>} options @param {'same' | 'other'} [origin] */
  async serve(options, origin = 'same') {
    const file = new FaultyFile({ body, ...options });
    if (origin === 'other') {
      const { url, close } = await serveFaulty(file);
      this.ends.push(close);
      return { file, url };
    }
    for (const prefix of ['/faulty/', '/signed/']) this.scene.site.route(prefix, (request, response) => file.handle(request, response));
    this.ends.push(async () => file.close());
    return { file, url: `${this.scene.site.url}faulty/${++this.#served}/model.gguf` };
  }

  /** Begins a load. @param {string} url @param {object} [options] of the load @param {object} [download] of the downloader */
  begin(url, options = {}, download = {}) {
    return this.visit.beginLoad(url, { ...options, debug: { download: { chunk_bytes: CHUNK, speedup: SPEEDUP, seed: 1, ...download } } });
  }

  /** @param {string} url @param {object} [options] of the load @param {object} [download] of the downloader */
  async load(url, options = {}, download = {}) {
    return (await this.begin(url, options, download)).answer();
  }

  /** That a load worked, and all of the file is stored. @param {import('./scene.mjs').Answer} answer @param {string} url @param {Buffer} [whole] */
  async assertWhole({ value, error }, url, whole = body) {
    assert.equal(error, undefined, `${error?.code}: ${error?.message}`);
    assert.equal(value.source.stored, true, value.source.why);
    await this.visit.assertStored(url, whole);
  }

  /** Another page, with a worker of its own; the one before stays open only as tabs do. @param {boolean} [beside] @param {string} [script] the worker's */
  async revisit(beside = false, script) {
    if (!beside) await this.visit.close();
    this.visit = await this.scene.visit(script);
    return this.visit;
  }

  async end() {
    const { visit } = this;
    await Promise.all(this.scene.context.pages().slice(1).map((page) => page.close())); // the first is the browser's own
    for (const end of this.ends.splice(0)) await end();
    assert.deepEqual(visit.errors.filter((e) => !EXPECTED.test(e)), [], 'the page reported errors');
  }
}

/** A stage for the tests of a `describe`. @param {Parameters<typeof Scene.open>[0]} [options] */
export function useStage(options) {
  const stage = new Stage();
  before(async () => {
    stage.scene = await Scene.open(options);
  });
  after(() => stage.scene?.close());
  beforeEach(async () => {
    stage.visit = await stage.scene.visit();
  });
  afterEach(() => stage.end());
  return stage;
}

/** That a bar never went back; reading from storage what another tab downloaded is another bar. @param {import('./scene.mjs').Answer} answer */
export function assertForward({ progress }) {
  for (const phase of new Set(progress.map((p) => p.phase))) {
    const bytes = progress.filter((p) => p.phase === phase).map((p) => p.loaded);
    assert.deepEqual(bytes, bytes.toSorted((a, b) => a - b), `the bar went back, ${phase}`);
  }
}
