// @ts-check
// Numbers and errors in words that a visitor understands.

const UNITS = ["B", "kB", "MB", "GB", "TB"];

/** `1942564512` -> "1.94 GB": decimal units, as shops and operating systems count. @param {number} bytes */
export function size(bytes) {
  let unit = 0;
  let value = bytes;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toPrecision(3)} ${UNITS[unit]}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 10) return "a few seconds";
  if (seconds < 55) return `${Math.ceil(seconds / 5) * 5} seconds`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 2) return "a minute";
  if (minutes < 60) return `${minutes} minutes`;
  const hours = Math.round(minutes / 6) / 10;
  return `${hours} ${hours === 1 ? "hour" : "hours"}`;
}

const DAY_MS = 24 * 3600_000;
const DAYS = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

/** `ago(yesterday)` -> "yesterday": by the calendar, not by 24 hours. @param {number} then in ms since 1970 @param {number} [now] */
export function ago(then, now = Date.now()) {
  const [day, today] = [new Date(then).setHours(0, 0, 0, 0), new Date(now).setHours(0, 0, 0, 0)];
  const days = Math.round((day - today) / DAY_MS);
  if (days >= 0) return "today"; // a clock that was set back makes no future
  if (days > -31) return DAYS.format(days, "day");
  const year = new Date(then).getFullYear() === new Date(now).getFullYear() ? undefined : "numeric";
  return `on ${new Date(then).toLocaleDateString("en-GB", { day: "numeric", month: "long", year })}`;
}

/** @param {number} rate tokens per second */
export const speed = (rate) => `${rate < 10 ? rate.toFixed(1) : Math.round(rate)} tokens/s`;

/** @param {string} backend */
export const device = (backend) => (backend === "webgpu" ? "GPU" : "CPU");

/**
 * @typedef {"retry" | "again" | "cpu" | "models" | "new-chat"} Remedy
 * @typedef {{title: string, text: string, remedies: Remedy[], details: string}} Explanation
 */

/** A file that is a GGUF, but not a whole and sane one. */
const DAMAGED = {
  title: "The model file is damaged",
  text: "What it says about itself does not fit together. Download it again, or choose another model.",
  remedies: ["retry", "models"],
};

/** What happened, what to do, and the buttons that do it, by error code. @type {Record<string, {title: string, text: string, remedies: Remedy[]}>} */
const ERRORS = /** @type {any} */ ({
  network: {
    title: "The download broke off",
    text:
      "The server could not be reached, or does not let other sites read its files. Check the connection and the address; if it still " +
      "fails, download the file yourself and open it here.",
    remedies: ["retry", "models"],
  },
  bad_response: {
    title: "The server gives this file out in a way that cannot be used",
    text:
      "It packs or cuts the file on the way, or sends other parts than were asked for. Try again, or take another address; or download " +
      "the file yourself and open it here.",
    remedies: ["retry", "models"],
  },
  file_changed: {
    title: "The file keeps changing on its server",
    text: "It changed faster than it could be downloaded, and parts of two versions do not make a model. Try again later, or choose another address.",
    remedies: ["retry", "models"],
  },
  digest_mismatch: {
    title: "These are not the bytes that were published",
    text:
      "What arrived does not match the model’s published fingerprint (SHA-256). It was neither used nor kept. Something between the server and " +
      "this browser may have changed it: try again, or on another network.",
    remedies: ["retry", "models"],
  },
  split_file: {
    title: "These parts do not make one model",
    text: "A split model needs all of its parts, from 00001 to the last, and no other’s. Choose them all at once, or give the address of the first.",
    remedies: ["models"],
  },
  not_stored: {
    title: "This model is not stored here any more",
    text: "It was deleted, here or in another tab, or the browser made room. Download it again, or open it from a file.",
    remedies: ["models"],
  },
  http_status: {
    title: "The server would not give out the model",
    text: "The address may be wrong, or the file may be private. Check the address, or choose another model.",
    remedies: ["retry", "models"],
  },
  not_gguf: {
    title: "This is not a GGUF model",
    text: "Outcrop reads model files in the GGUF format; their names end in .gguf. An address must lead to the file itself, not to a page about it.",
    remedies: ["models"],
  },
  gguf_version: {
    title: "This GGUF is of another age",
    text: "Outcrop reads versions 2 and 3 of the format. Look for a newer copy of the model.",
    remedies: ["models"],
  },
  truncated_file: {
    title: "The model file is incomplete",
    text: "It ends too early, as after a download that broke off. Download it again.",
    remedies: ["retry", "models"],
  },
  malformed_gguf: DAMAGED,
  bad_metadata: DAMAGED,
  bad_tensors: DAMAGED,
  tokenizer: {
    title: "This model splits words in an unknown way",
    text: "Its tokenizer is not one that Outcrop can build. Choose a Granite 4.0 H model.",
    remedies: ["models"],
  },
  unsupported_model: {
    title: "Outcrop cannot run this kind of model",
    text: "It runs the Granite 4.0 H family (Micro, 1B, 350M), not other models, however good.",
    remedies: ["models"],
  },
  unsupported_tensor_type: {
    title: "This file is packed in an unknown way",
    text: "Outcrop cannot read its number format. Choose a Q4_K_M or Q8_0 file of the same model.",
    remedies: ["models"],
  },
  unknown_model: {
    title: "There is no model of that name here",
    text: "Choose one from the list, or give the whole address of a .gguf file.",
    remedies: ["models"],
  },
  chat_template: {
    title: "The model’s chat format did not work",
    text: "The file says how a chat is to be written down, and this chat could not be. Start a new chat, or choose another model.",
    remedies: ["new-chat", "models"],
  },
  file: {
    title: "The file could not be read",
    text: "It may have been moved, changed or locked since you chose it. Open it again.",
    remedies: ["models"],
  },
  storage: {
    title: "This browser’s storage failed",
    text: "It may be full, or switched off for this site, as in a private window. Make room by deleting a stored model, and try again.",
    remedies: ["retry", "models"],
  },
  storage_full: {
    title: "There is no more room for models here",
    text: "The browser lets this site keep only so much. Delete a stored model, or free space on the disk, and try again.",
    remedies: ["retry", "models"],
  },
  no_webgpu: {
    title: "No graphics processor to use here",
    text:
      "This browser offers no WebGPU: it may be switched off, too old, or blocked for this graphics card. The CPU works everywhere, and " +
      "is slower.",
    remedies: ["cpu"],
  },
  gpu: {
    title: "The graphics processor failed",
    text: "It may be out of memory. Close other heavy tabs and try again, choose a smaller model, or use the CPU.",
    remedies: ["retry", "cpu", "models"],
  },
  gpu_lost: {
    title: "The graphics processor went away",
    text: "That happens after sleep, or when its driver restarts. Your chat is still here, and the model comes back by itself.",
    remedies: ["again", "cpu"],
  },
  out_of_memory: {
    title: "Not enough memory",
    text: "This model is too big for what is free. Close other tabs and try again, or choose a smaller model.",
    remedies: ["retry", "models"],
  },
  context_length_exceeded: {
    title: "This chat has grown too long",
    text: "The model cannot keep all of it in mind. Start a new chat.",
    remedies: ["new-chat"],
  },
  invalid_request: {
    title: "That cannot be asked",
    text: "One of the settings, or an address, makes no sense. The details say which.",
    remedies: [],
  },
  non_finite_logits: {
    title: "The model lost its way",
    text: "It produced a number that is none, and the answer was stopped. Try again; if it happens on the GPU only, use the CPU.",
    remedies: ["cpu", "new-chat"],
  },
  engine_crashed: {
    title: "The engine crashed",
    text: "Your chat is still here: load the model again and go on. If it happens again, memory may be short: choose a smaller model.",
    remedies: ["retry", "models"],
  },
  threads_failed: {
    title: "The engine was interrupted",
    text: "One of its threads stopped while an answer was being written. Your chat is still here: ask again, and it answers on one thread, more slowly.",
    remedies: ["again", "models"],
  },
  engine_unavailable: {
    title: "Part of this page could not be loaded",
    text: "The engine did not arrive. Check the connection and try again.",
    remedies: ["retry"],
  },
  unsupported_browser: {
    title: "This browser is too old",
    text: "Outcrop needs WebAssembly with SIMD, which every browser of the last few years has.",
    remedies: [],
  },
});

/**
 * @param {unknown} error
 * @param {number} [kept] bytes of the download that are kept
 * @returns {Explanation}
 */
export function explain(error, kept = 0) {
  const { code, message } = /** @type {{code?: unknown, message?: unknown}} */ (error ?? {});
  const known = typeof code === "string" && Object.hasOwn(ERRORS, code) ? ERRORS[code] : undefined;
  const details = `${message ?? error}${typeof code === "string" ? ` (${code})` : ""}`;
  if (known) return { ...known, text: kept > 0 ? `${known.text} ${size(kept)} are kept: the next try goes on from there.` : known.text, details };
  return {
    title: "Something went wrong",
    text: "This should not happen. Try again; if it comes back, the details below will help whoever looks into it.",
    remedies: ["retry", "models"],
    details,
  };
}

/** @type {Record<Remedy, string>} */
export const REMEDIES = { retry: "Try again", again: "Ask again", cpu: "Run on the CPU", models: "Choose a model", "new-chat": "New chat" };
