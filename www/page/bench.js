// @ts-check
// The bench page: one measurement at a time, shown as a table and copied as Markdown or JSON.

import { EngineWorker } from "../engine.js";

/** @typedef {import("../worker.js").BenchReport} Report */

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

/** What a report says in a few lines: [name, value]. @param {Report} r @returns {[string, string][]} */
function figures(r) {
  const { weights, state, kv, activations } = r.bytes_per_token;
  return [
    ["GPU", `${r.adapter ?? "unnamed"}${r.software ? " (computes on the CPU)" : ""}`],
    ["Model", `${r.model}, random weights`],
    ["Reading", `${number(r.prefill_tps)} tokens/s (prompt of ${r.prompt})`],
    ["Writing", `${number(r.decode_tps)} tokens/s (${r.tokens} tokens)`],
    ["A token moves", `${number((weights + state + kv + activations) / 1e6)} MB in ${r.dispatches_per_token} dispatches`],
    ["This GPU copies", `${number(r.copy_gbps)} GB/s; writing reaches ${number(r.share_of_copy * 100)} % of that`],
    ["Filling the GPU took", `${number((r.load_ms ?? 0) / 1000)} s`],
  ];
}

/** Rows of the table of steps. @param {Report} r @returns {string[][]} */
function steps(r) {
  const all = r.ops.reduce((sum, op) => sum + op.ms, 0);
  return r.ops.map((op) => [op.op, `${op.dispatches}`, number(op.ms, 3), number((op.ms / all) * 100), number(op.gbps)]);
}

/** @param {Report & {date: string, browser: string}} r */
function markdown(r) {
  const lines = [...figures(r), ["Browser", r.browser], ["Date", r.date]].map(([name, value]) => `- ${name}: ${value}`);
  const rows = steps(r).map((row) => `| ${row.join(" | ")} |`);
  return [...lines, "", "| step | times | ms | % | GB/s |", "|---|--:|--:|--:|--:|", ...rows, ""].join("\n");
}

/** @param {Report} r */
function show(r) {
  element("figures", HTMLDListElement).replaceChildren(
    ...figures(r).flatMap(([name, value]) => {
      const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
      dt.textContent = name;
      dd.textContent = value;
      return [dt, dd];
    }),
  );
  element("ops", HTMLTableSectionElement).replaceChildren(
    ...steps(r).map((row) => {
      const tr = document.createElement("tr");
      tr.replaceChildren(
        ...row.map((text) => {
          const td = document.createElement("td");
          td.textContent = text;
          return td;
        }),
      );
      return tr;
    }),
  );
  result.hidden = false;
}

/** @param {string} id */
const value = (id) => element(id, HTMLInputElement).valueAsNumber;

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const controller = new AbortController();
  const end = () => controller.abort();
  stop.addEventListener("click", end);
  run.disabled = true;
  stop.hidden = progress.hidden = false;
  result.hidden = true;
  progress.removeAttribute("value");
  status.textContent = "Looking for a GPU";
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
        },
      },
      {
        signal: controller.signal,
        onProgress: ({ loaded, total }) => {
          progress.max = total ?? 1;
          progress.value = loaded;
          const whole = loaded === total;
          status.textContent = whole ? "Measuring" : `Filling the GPU: ${number(loaded / 1e6, 0)} of ${number((total ?? 0) / 1e6, 0)} MB`;
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
