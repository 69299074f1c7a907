// The wire is quiet: every request of a whole visit of the page, cold and warm, is the site's own file or the model's, and says nothing of what
// was written. Three look at once: the browser's protocol, the servers, and the browser's own log of its network, which nothing in a page evades.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { serveFaulty, tally } from './fault-server.mjs';
import { launchChromium, skipWithout, startServer } from './harness.mjs';

const www = fileURLToPath(new URL('../../www', import.meta.url));
const demo = readFileSync(fileURLToPath(new URL('../../models/demo/granite-demo-Q4_K_M.gguf', import.meta.url)));
/** What a plain GET of a browser says, whatever the page asks for; `origin` is what CORS wants to know. */
const USUAL = new Set([
  'accept', 'accept-encoding', 'accept-language', 'cache-control', 'connection', 'host', 'origin', 'pragma', 'range',
  'sec-ch-ua', 'sec-ch-ua-mobile', 'sec-ch-ua-platform', 'sec-fetch-dest', 'sec-fetch-mode', 'sec-fetch-site', 'user-agent',
]);
const SECRET = 'Hello, my name is Anna.';

/** Addresses that the network log says were asked for, and by whom. @param {string} file */
async function netLog(file) {
  let text = await readFile(file, 'utf8');
  // A log whose browser ended in haste lacks its end.
  if (!text.trimEnd().endsWith('}]}') && !text.trimEnd().endsWith('}')) text = `${text.trimEnd().replace(/,$/, '')}]}`;
  const { constants, events } = JSON.parse(text);
  const start = constants.logEventTypes.URL_REQUEST_START_JOB;
  return events.filter((/** @type {any} */ { type, params }) => type === start && params?.url).map((/** @type {any} */ { params }) => ({ url: params.url, method: params.method, initiator: params.initiator ?? '' }));
}

describe('wire', { skip: skipWithout('chromium') }, () => {
  for (const [name, model] of /** @type {const} */ ([['the bundled model', null], ['a model of another origin', 'other']])) {
    it(`a whole visit: ${name}`, { timeout: 180_000 }, async (t) => {
      const folder = await mkdtemp(path.join(os.tmpdir(), 'outcrop-wire-'));
      const log = path.join(folder, 'net.json');
      const site = await startServer();
      const elsewhere = model ? await serveFaulty({ body: demo }) : null;
      const context = await launchChromium({ gpu: false, args: [`--log-net-log=${log}`, '--net-log-capture-mode=Everything'] });
      /** @type {{url: string, method: string}[]} */
      const seen = [];
      context.on('request', (request) => seen.push({ url: request.url(), method: request.method() }));
      let open = true;
      try {
        const page = await context.newPage();
        const address = site.url + (elsewhere ? `?model=${encodeURIComponent(elsewhere.url)}` : '');
        const ready = async () => {
          // A page that asks before it downloads is told to go on.
          const go = page.getByRole('button', { name: /^Download/ });
          await page.locator('#status').filter({ hasText: / on the CPU/ }).or(go).first().waitFor({ timeout: 60_000 });
          if (await go.isVisible()) await go.click();
          await page.locator('#status').filter({ hasText: / on the CPU/ }).waitFor({ timeout: 60_000 });
        };
        const ask = async (/** @type {string} */ text) => {
          const before = await page.locator('li.model').count();
          const message = page.getByRole('textbox', { name: 'Message' });
          await message.fill(text);
          await message.press('Enter');
          const answer = page.locator('li.model').nth(before);
          await answer.and(page.locator(':not([aria-busy])')).getByRole('button', { name: 'Copy' }).waitFor({ timeout: 60_000 });
          return answer.locator('.body').innerText();
        };

        await page.goto(address);
        await ready();
        const cold = seen.length;
        assert.equal(await ask(SECRET), 'Nice to meet you, Anna!');
        const chat = seen.slice(cold);
        await page.reload();
        await ready();
        const asked = () => (elsewhere ? elsewhere.file.log.length : site.requests.filter(({ pathname }) => pathname.endsWith('.gguf')).length);
        const warm = asked();
        const bytes = elsewhere ? elsewhere.file.sent : 0;
        assert.equal(await ask(SECRET), 'Nice to meet you, Anna!');
        // What else the page has: what is stored, the settings.
        await page.locator('#open-models').click();
        await page.keyboard.press('Escape');
        await page.locator('#open-settings').click();
        await page.keyboard.press('Escape');
        await context.close();
        open = false;

        // 1. What the protocol saw.
        const own = new URL(site.url).origin;
        for (const { url, method } of seen) {
          const { origin, pathname, search } = new URL(url);
          assert.equal(method, 'GET', url);
          if (elsewhere && url === elsewhere.url) continue;
          if (url.startsWith('data:')) continue;
          assert.equal(origin, own, `a request to ${url}`);
          // The page's own address keeps which model was chosen, and the server that sent the page may know.
          assert.ok(search === '' || pathname === '/', `${url} says more than a name`);
          assert.ok(existsSync(path.join(www, pathname)), `${pathname} is no file of the site`);
        }
        assert.deepEqual(chat.filter(({ url }) => !url.startsWith(own)), [], 'requests while chatting');
        assert.ok(!seen.some(({ url }) => /Anna|Hello/.test(decodeURIComponent(url))));
        // 2. What the servers saw.
        assert.deepEqual([...new Set(site.requests.map(({ method }) => method))], ['GET']);
        if (elsewhere) {
          const { file } = elsewhere;
          assert.deepEqual([...new Set(file.log.map(({ method, path }) => `${method} ${path}`))], ['GET /model.gguf'], 'preflights, or other paths');
          for (const { headers } of file.log) assert.deepEqual(Object.keys(headers).filter((name) => !USUAL.has(name)), [], 'headers that a plain GET has not');
          assert.equal(tally(file.log).covered, demo.length);
          // Beside its bytes once, only a look at how many there are.
          assert.ok(bytes <= demo.length + (64 << 10), `${bytes} bytes for a model of ${demo.length}`);
        }
        assert.equal(asked(), warm, 'the second visit asked for the model');
        // 3. What the browser's network did: as much, and nothing else.
        const net = await netLog(log);
        // The browser asks its maker about updates and accounts; that has no page as its initiator.
        const ofPages = net.filter((/** @type {any} */ { initiator }) => /^https?:/.test(initiator));
        const known = (/** @type {string} */ url) => [own, elsewhere?.origin].includes(new URL(url).origin) || url.startsWith('data:');
        assert.deepEqual(ofPages.filter((/** @type {any} */ { url, method }) => !known(url) || (method ?? 'GET') !== 'GET'), [], 'requests that only the network log shows');
        const counted = (/** @type {any[]} */ list) => list.filter(({ url }) => known(url) && !url.startsWith('data:')).length;
        assert.ok(counted(net) >= counted(seen), `the network log is not whole: ${counted(net)} of ${counted(seen)}`);
        t.diagnostic(`${seen.length} requests by the protocol, ${site.requests.length + (elsewhere?.file.log.length ?? 0)} by the servers, ${counted(net)} by the network log, which has ${net.length - ofPages.length} of the browser’s own; ${warm} for the model`);
      } finally {
        if (open) await context.close();
        await elsewhere?.close();
        await site.close();
        await rm(folder, { recursive: true });
      }
    });
  }
});
