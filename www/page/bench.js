// @ts-check
// The bench page: one measurement at a time, shown as a table and copied as Markdown or JSON.

import { EngineWorker } from "../engine.js";

/**
 * @typedef {import("../worker.js").StandIn & import("../worker.js").BenchReport} GpuReport
 * @typedef {import("../worker.js").StandIn & import("../worker.js").CpuBenchReport} CpuReport
 * @typedef {GpuReport | CpuReport} Report
 * @typedef {{caption: string, head: string[], rows: string[][]}} Table the first column is text, the others are numbers
 */

/** @template {HTMLElement} T @param {string} id @param {new () => T} type */
function element(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`the page has no ${id}`);
  return found;
}

const form = element("form", HTMLFormElement);
const run = element("run", HTMLButtonElement);
const stop = element("stop", HTMLButtonElement);
const status = element("status", HTMLParagraphElement);
const progress = element("progress", HTMLProgressElement);
const result = element("result", HTMLElement);

/** The last measurement, with what it ran on. @type {(Report & {date: string, browser: string}) | null} */
let last = null;

/** @param {number} n @param {number} [digits] */
const number = (n, digits = 1) => n.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits });

/** @param {Report} r @returns {r is CpuReport} */
const isOnCpu = (r) => r.backend === "cpu";

/** What a report says in a few lines: [name, value]. @param {Report} r @returns {[string, string][]} */
function figures(r) {
  return [
    ...(isOnCpu(r) ? cpu(r) : gpu(r)),
    ["Model", `${r.model}, random weights`],
    ["Reading", `${number(r.prefill_tps)} tokens/s (prompt of ${r.prompt})`],
    ["Writing", `${number(r.decode_tps)} tokens/s (${r.tokens} tokens)`],
    ["A token moves", isOnCpu(r) ? megabytes(r.bytes_per_token) : `${megabytes(sum(Object.values(r.bytes_per_token)))} in ${r.dispatches_per_token} dispatches`],
    [`This ${isOnCpu(r) ? "CPU" : "GPU"} copies`, `${number(r.copy_gbps)} GB/s; writing reaches ${number(r.share_of_copy * 100)} % of that`],
    ["Filling the memory took", `${number(r.load_ms / 1000)} s`],
    ...(isOnCpu(r) ? [/** @type {[string, string]} */ (["The engine's memory", megabytes(r.heap_bytes)])] : []),
  ];
}

/** @param {number[]} list */
const sum = (list) => list.reduce((a, b) => a + b, 0);
/** @param {number} bytes */
const megabytes = (bytes) => `${number(bytes / 1e6)} MB`;

/** @param {GpuReport} r @returns {[string, string][]} */
const gpu = (r) => [["GPU", `${r.adapter}${r.software ? " (computes on the CPU)" : ""}`]];

/** @param {CpuReport} r @returns {[string, string][]} */
function cpu(r) {
  const build = { simd128: "WebAssembly with SIMD", "relaxed-simd": "WebAssembly with relaxed SIMD and threads" }[r.build];
  const threads = `${r.threads}${r.threads_why ? `: ${r.threads_why}` : ""}`;
  return [
    ["Ran on", `the CPU${r.fallback ? `: ${r.fallback}` : ""}`],
    ["Threads", threads],
    ["Build", `${build}, ${r.activations === "int8" ? "8-bit" : "32-bit"} activations`],
  ];
}

/** Where the time goes. @param {Report} r @returns {Table[]} */
function tables(r) {
  const token = "Where a token's time goes";
  const head = ["Step", "Times", "ms", "%", "GB/s"];
  if (isOnCpu(r)) {
    return [
      { caption: token, head: [...head, "GMAC/s"], rows: steps(r.ops) },
      { caption: `Where the time of ${r.batch} tokens of a prompt goes`, head: [...head, "GMAC/s"], rows: steps(r.batch_ops) },
    ];
  }
  return [{ caption: token, head, rows: steps(r.ops.map(({ dispatches, ...op }) => ({ ...op, times: dispatches }))) }];
}

/** @param {{op: string, times: number, ms: number, gbps: number, gmacs?: number}[]} ops @returns {string[][]} */
function steps(ops) {
  const all = sum(ops.map((op) => op.ms));
  return ops.map(({ op, times, ms, gbps, gmacs }) => [
    op,
    `${times}`,
    number(ms, 3),
    number((ms / all) * 100),
    number(gbps),
    ...(gmacs === undefined ? [] : [gmacs ? number(gmacs) : ""]), // a mixer has no weights
  ]);
}

/** @param {Report & {date: string, browser: string}} r */
function markdown(r) {
  const row = (/** @type {string[]} */ cells) => `| ${cells.join(" | ")} |`;
  const lines = [...figures(r), ["Browser", r.browser], ["Date", r.date]].map(([name, value]) => `- ${name}: ${value}`);
  for (const { caption, head, rows } of tables(r)) {
    lines.push("", `${caption}:`, "", row(head), row(head.map((_, i) => (i ? "--:" : "---"))), ...rows.map(row));
  }
  return `${lines.join("\n")}\n`;
}

/** @template {keyof HTMLElementTagNameMap} T @param {T} tag @param {...(string | Node)} children */
function make(tag, ...children) {
  const made = document.createElement(tag);
  made.append(...children);
  return made;
}

/** @param {Table} table */
function tableOf({ caption, head, rows }) {
  const heads = head.map((text) => {
    const th = make("th", text);
    th.scope = "col";
    return th;
  });
  const body = rows.map((row) => make("tr", ...row.map((text) => make("td", text))));
  return make("table", make("caption", caption), make("thead", make("tr", ...heads)), make("tbody", ...body));
}

/** @param {Report} r */
function show(r) {
  element("figures", HTMLDListElement).replaceChildren(...figures(r).flatMap(([name, value]) => [make("dt", name), make("dd", value)]));
  element("tables", HTMLDivElement).replaceChildren(...tables(r).map(tableOf));
  result.hidden = false;
}

/** @param {string} id */
const value = (id) => element(id, HTMLInputElement).valueAsNumber;

const where = element("where", HTMLSelectElement);
const threads = element("threads", HTMLInputElement);
/** Tokens to read and to write that take seconds, not minutes, unless the visitor chose others. */
const usual = { prompt: { gpu: 512, cpu: 128 }, tokens: { gpu: 128, cpu: 32 } };
/** @type {Set<EventTarget | null>} */
const chosen = new Set();

function suit() {
  const device = where.value === "cpu" ? "cpu" : "gpu";
  const label = threads.parentElement;
  if (label) label.hidden = device === "gpu";
  for (const [id, values] of Object.entries(usual)) {
    const input = element(id, HTMLInputElement);
    if (!chosen.has(input)) input.value = `${values[device]}`;
  }
}
where.addEventListener("change", suit);
for (const id of Object.keys(usual)) element(id, HTMLInputElement).addEventListener("input", (event) => chosen.add(event.target));
// Without a GPU, the CPU is what there is to measure.
if (!navigator.gpu) where.value = "cpu";
suit();

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const controller = new AbortController();
  const end = () => controller.abort();
  stop.addEventListener("click", end);
  run.disabled = true;
  stop.hidden = progress.hidden = false;
  result.hidden = true;
  progress.removeAttribute("value");
  status.textContent = where.value === "cpu" ? "Starting" : "Looking for a GPU";
  const worker = new EngineWorker();
  try {
    /** @type {Report} */
    const report = await worker.request(
      {
        type: "bench",
        options: {
          shape: element("shape", HTMLSelectElement).value,
          prompt: value("prompt"),
          tokens: value("tokens"),
          repeats: value("repeats"),
          backend: where.value,
          ...(where.value === "cpu" && threads.value ? { threads: threads.valueAsNumber } : {}),
          details: true,
        },
      },
      {
        signal: controller.signal,
        onProgress: (/** @type {import("../worker.js").BenchProgress} */ { backend, loaded, total }) => {
          progress.max = total;
          progress.value = loaded;
          const whole = loaded === total;
          const device = backend === "cpu" ? "CPU" : "GPU";
          const filling = `Filling the ${device}'s memory: ${number(loaded / 1e6, 0)} of ${number(total / 1e6, 0)} MB`;
          status.textContent = whole ? `Measuring the ${device}` : filling;
          if (whole) progress.removeAttribute("value");
        },
      },
    );
    last = { date: new Date().toISOString().slice(0, 10), browser: navigator.userAgent, ...report };
    show(last);
    status.textContent = "Done";
  } catch (error) {
    const { code, message } = /** @type {{code?: string, message?: string}} */ (error);
    status.textContent = code === "aborted" ? "Stopped" : `It did not work: ${message ?? error}`;
  } finally {
    worker.close(/** @type {any} */ (new Error("the measurement is over")));
    stop.removeEventListener("click", end);
    run.disabled = false;
    stop.hidden = progress.hidden = true;
  }
});

/** @param {string} id @param {(report: NonNullable<typeof last>) => string} text */
function copies(id, text) {
  const button = element(id, HTMLButtonElement);
  button.addEventListener("click", async () => {
    if (!last) return;
    const label = button.textContent;
    try {
      await navigator.clipboard.writeText(text(last));
      button.textContent = "Copied";
    } catch {
      button.textContent = "The browser does not allow it";
    }
    setTimeout(() => (button.textContent = label), 1500);
  });
}
copies("copy-markdown", markdown);
copies("copy-json", (report) => `${JSON.stringify(report, null, 2)}\n`);
