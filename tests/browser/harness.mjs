// What every browser test starts from: a server, Chromium by Playwright, Firefox by WebDriver BiDi, both headless and with a
// WebGPU adapter made of software, so that a machine without a graphics card runs the same tests.
import { spawn } from 'node:child_process';
import { accessSync, constants, existsSync, readdirSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { chromium } from 'playwright-core';
import puppeteer from 'puppeteer-core';

export { startServer } from './server.mjs';

const BROWSERS = {
  chromium: ['chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome', '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome'],
  firefox: ['firefox-esr', 'firefox', '/Applications/Firefox.app/Contents/MacOS/firefox'],
};

/**
 * The browser's program: `CHROMIUM` or `FIREFOX` from the environment, else the first usual name found.
 * @param {'chromium' | 'firefox'} name
 * @returns {string | null}
 */
function findBrowser(name) {
  const chosen = process.env[name.toUpperCase()];
  const folders = (process.env.PATH ?? '').split(path.delimiter);
  const candidates = chosen ? [chosen] : BROWSERS[name].flatMap((n) => (path.isAbsolute(n) ? [n] : folders.map((f) => path.join(f, n))));
  return candidates.find(isExecutable) ?? null;
}

/**
 * For a test's `skip` option: false, or why the test cannot run. The reason is printed, for CI fails on SKIPPED.
 * @param {'chromium' | 'firefox'} name
 * @returns {string | false}
 */
export function skipWithout(name) {
  if (findBrowser(name)) return false;
  const reason = `no ${name} found (install it, or set ${name.toUpperCase()} to its path)`;
  console.log(`SKIPPED: ${reason}`);
  return reason;
}

/**
 * A Chromium profile of its own. Not an incognito context: those get a storage quota too small for a model.
 * @param {object} [options]
 * @param {boolean} [options.gpu] false: no WebGPU adapter is offered
 * @param {string} [options.userDataDir] keep the profile here; by default a temporary one
 * @param {import('playwright-core').BrowserContextOptions} [options.context] viewport, colour scheme, ..
 * @param {string[]} [options.args] more command line flags
 * @returns {Promise<import('playwright-core').BrowserContext>}
 */
export async function launchChromium({ gpu = true, userDataDir, context = {}, args = [] } = {}) {
  return chromium.launchPersistentContext(userDataDir ?? '', {
    executablePath: findBrowser('chromium') ?? undefined,
    headless: true,
    ...context,
    args: [...flags(gpu), ...args],
  });
}

/** @param {boolean} gpu */
const flags = (gpu) => [
  '--no-sandbox',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-quic',
  '--disable-sync',
  ...(gpu
    ? ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan,WebGPUService']
    : ['--disable-gpu', '--disable-software-rasterizer']),
];

/**
 * A Chromium that nobody watches: DevTools, by which the tests look into pages, keep up to 200 MB of what a page fetches in its renderer, and take their
 * share of time for every piece. The page itself must tell what it found.
 *
 * @param {string} url
 * @param {string} userDataDir
 * @returns {Promise<() => Promise<void>>} ends it; what it stored is on the disk then
 */
export async function openUnwatched(url, userDataDir) {
  const browser = spawn(findBrowser('chromium') ?? 'chromium', ['--headless', `--user-data-dir=${userDataDir}`, ...flags(false), url], { stdio: 'ignore' });
  const gone = new Promise((resolve) => browser.once('exit', resolve));
  await new Promise((resolve, reject) => browser.once('spawn', () => resolve(undefined)).once('error', reject));
  return async () => {
    browser.kill();
    await gone;
  };
}

/**
 * A Firefox profile of its own, on Mesa's software Vulkan where that is installed.
 * @param {object} [options]
 * @param {boolean} [options.gpu] false: `navigator.gpu` is switched off
 * @param {string} [options.userDataDir] keep the profile here; by default a temporary one
 * @returns {Promise<import('puppeteer-core').Browser>}
 */
export async function launchFirefox({ gpu = true, userDataDir } = {}) {
  return puppeteer.launch({
    browser: 'firefox',
    executablePath: findBrowser('firefox') ?? undefined,
    headless: true,
    userDataDir,
    env: { ...process.env, ...softwareVulkan() },
    extraPrefsFirefox: {
      'dom.webgpu.enabled': gpu,
      'dom.webgpu.workers.enabled': gpu,
      'gfx.webgpu.ignore-blocklist': gpu,
      'gfx.webrender.software': true,
    },
  });
}

/**
 * Environment that makes the Vulkan loader offer Mesa's lavapipe only; empty where it is not installed.
 * @returns {Record<string, string>}
 */
function softwareVulkan() {
  const folder = '/usr/share/vulkan/icd.d';
  const driver = existsSync(folder) && readdirSync(folder).find((name) => /^lvp_icd.*\.json$/.test(name));
  return driver ? { VK_ICD_FILENAMES: path.join(folder, driver), XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR ?? os.tmpdir() } : {};
}

/**
 * Collects what a page reports as wrong (uncaught errors, console errors), for a test to compare with what it expects.
 * @param {import('playwright-core').Page | import('puppeteer-core').Page} page
 * @returns {string[]} grows while the page lives
 */
export function collectErrors(page) {
  /** @type {string[]} */
  const errors = [];
  // The two libraries share these events and the members used here, but not their declared types.
  const events = /** @type {{ on(event: string, handler: (value: any) => void): unknown }} */ (page);
  events.on('pageerror', (error) => errors.push(String(error)));
  events.on('console', (message) => {
    if (message.type() === 'error') errors.push(message.text());
  });
  return errors;
}

/** @param {string} file */
function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
