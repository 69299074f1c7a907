// The JavaScript heaps of a page and its workers, watched through the DevTools protocol.

/**
 * Samples until stopped. `peak` is the largest sum seen, bytes; array buffers count, the engine's own memory does not.
 *
 * @param {import('playwright-core').Page} page
 * @param {number} everyMs
 */
export async function watchHeap(page, everyMs = 100) {
  const session = await page.context().newCDPSession(page);
  /** @type {Set<string>} */
  const workers = new Set();
  /** @type {Map<number, { sessionId: string, resolve: (result: any) => void }>} */
  const waiting = new Map();
  let next = 1;
  session.on('Target.attachedToTarget', ({ sessionId }) => void workers.add(sessionId));
  session.on('Target.detachedFromTarget', ({ sessionId }) => {
    workers.delete(sessionId);
    // A worker that has ended answers nothing more.
    for (const [id, one] of waiting) if (one.sessionId === sessionId && waiting.delete(id)) one.resolve(undefined);
  });
  session.on('Target.receivedMessageFromTarget', ({ message }) => {
    const { id, result } = JSON.parse(message);
    waiting.get(id)?.resolve(result);
    waiting.delete(id);
  });
  await session.send('Target.setAutoAttach', { autoAttach: true, waitForDebuggerOnStart: false, flatten: false });

  /** @param {string} sessionId @returns {Promise<any>} */
  const ask = (sessionId) =>
    new Promise((resolve) => {
      const id = next++;
      waiting.set(id, { sessionId, resolve });
      const message = JSON.stringify({ id, method: 'Runtime.getHeapUsage' });
      session.send('Target.sendMessageToTarget', { sessionId, message }).catch(() => resolve(undefined));
    });
  const seen = { samples: 0, workers: 0, used: 0, backing: 0 };
  let running = true;
  const loop = (async () => {
    while (running) {
      const own = session.send('Runtime.getHeapUsage').catch(() => (running = false)); // the page was closed
      const all = [await own, ...(await Promise.all([...workers].map(ask)))];
      const usages = /** @type {any[]} */ (all.filter(Boolean));
      const sum = (/** @type {string} */ key) => usages.reduce((total, usage) => total + (usage[key] ?? 0), 0);
      seen.samples++;
      seen.workers = Math.max(seen.workers, usages.length - 1);
      seen.used = Math.max(seen.used, sum('usedSize') + sum('embedderHeapUsedSize'));
      seen.backing = Math.max(seen.backing, sum('backingStorageSize'));
      await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  })();
  return {
    async stop() {
      running = false;
      await loop;
      await session.detach().catch(() => {});
      return seen;
    },
  };
}
