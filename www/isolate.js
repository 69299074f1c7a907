// @ts-check
// Makes a page cross-origin isolated on a host whose response headers cannot be set, GitHub Pages say. Opt-in: a page that wants it has
//
//   <script src="isolate.js"></script>
//
// before its other scripts. The same file is the page's part, which registers a service worker and loads the page once more, and that
// service worker, which adds the headers to what the page loads. It keeps nothing and answers nothing by itself. It must lie in the
// page's folder or above it, and the page must be served by HTTPS or from localhost.

(() => {
  const scope = /** @type {any} */ (globalThis);
  if (typeof document === "undefined") serve(scope);
  else if (!scope.crossOriginIsolated && scope.isSecureContext && "serviceWorker" in navigator) register();

  /** The page's part. */
  async function register() {
    const script = /** @type {HTMLScriptElement | null} */ (document.currentScript)?.src ?? "isolate.js";
    // If the page is still not isolated after that (another worker, a strange browser), it goes on as it is.
    const tried = "outcrop-isolate";
    if (navigator.serviceWorker.controller && sessionStorage.getItem(tried)) return;
    const types = scope.trustedTypes;
    const url = types ? types.createPolicy("outcrop-isolate", { createScriptURL: () => script }).createScriptURL("") : script;
    try {
      await navigator.serviceWorker.register(url);
      await navigator.serviceWorker.ready;
      if (sessionStorage.getItem(tried)) return;
      sessionStorage.setItem(tried, "yes");
      location.reload();
    } catch (error) {
      console.warn("outcrop: the page cannot be isolated, the engine will run on one thread:", error);
    }
  }

  /** The service worker. @param {any} worker */
  function serve(worker) {
    worker.addEventListener("install", () => worker.skipWaiting());
    worker.addEventListener("activate", (/** @type {any} */ event) => event.waitUntil(worker.clients.claim()));
    worker.addEventListener("fetch", (/** @type {any} */ event) => {
      const { request } = event;
      // Models from other sites are fetched with CORS, and need no header of ours.
      if (new URL(request.url).origin !== worker.location.origin) return;
      if (request.cache === "only-if-cached" && request.mode !== "same-origin") return;
      event.respondWith(isolated(request));
    });
  }

  /** @param {Request} request */
  async function isolated(request) {
    const response = await fetch(request);
    if (response.type === "opaque" || response.type === "opaqueredirect" || response.type === "error") return response;
    const headers = new Headers(response.headers);
    headers.set("Cross-Origin-Opener-Policy", "same-origin");
    headers.set("Cross-Origin-Embedder-Policy", "require-corp");
    headers.set("Cross-Origin-Resource-Policy", "same-origin");
    const { status, statusText } = response;
    return new Response(status === 204 || status === 304 ? null : response.body, { status, statusText, headers });
  }
})();
