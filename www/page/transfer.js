// @ts-check
// Files in and out of this browser's storage, one at a time, with a bar and a way to stop.

import { Outcrop } from "../outcrop.js";
import { fileName } from "./choices.js";
import { button, paragraph, span } from "./parts.js";
import { share } from "./progress.js";

/** @typedef {(loaded: number, total: number | null) => void} OnProgress */

/** Long enough for a browser to have opened an address that it was told to save. */
const REVOKE_MS = 60_000;

export class Transfer {
  #box;
  /** @type {AbortController | null} */
  #running = null;

  /** @param {HTMLElement} box where it is shown */
  constructor(box) {
    this.#box = box;
  }

  get running() {
    return this.#running !== null;
  }

  /**
   * @template T
   * @param {string} title @param {(onProgress: OnProgress, signal: AbortSignal) => Promise<T>} task
   * @returns {Promise<T | null>} null if the visitor has stopped it
   */
  async run(title, task) {
    const controller = (this.#running = new AbortController());
    const bar = document.createElement("progress");
    bar.max = 100;
    bar.setAttribute("aria-label", title);
    const line = paragraph("line", "Starting…");
    const cancel = button("link", { label: "Cancel", name: `Cancel: ${title}`, act: () => controller.abort() });
    this.#box.replaceChildren(paragraph("title", span("name", title), cancel), bar, line);
    this.#box.hidden = false;
    this.#box.scrollIntoView({ block: "nearest" });
    try {
      return await task((loaded, total) => {
        if (total) bar.value = (100 * loaded) / total;
        line.textContent = share(loaded, total);
      }, controller.signal);
    } catch (error) {
      if (controller.signal.aborted) return null;
      throw error;
    } finally {
      this.#running = null;
      this.#box.hidden = true;
      this.#box.replaceChildren();
    }
  }
}

/**
 * The files that a stored model is: their ids and names. None where the parts of a split model are not told apart by number.
 *
 * @param {import("./choices.js").StoredModel} model
 */
export function filesOf({ id, parts }) {
  const ids = parts === 1 ? [id] : Array.from({ length: parts }, (_, i) => id.replace(/-\d{5}(-of-\d{5}\.gguf)/i, `-${String(i + 1).padStart(5, "0")}$1`));
  return new Set(ids).size === parts ? ids.map((id) => ({ id, name: exportName(id) })) : [];
}

/**
 * Asks where exported files are to go; this has to happen at once after a click.
 *
 * @param {string[]} names
 * @returns {Promise<((name: string, blob: Blob, onProgress: (loaded: number) => void, signal: AbortSignal) => Promise<void>) | null>} writes one there;
 *   null: nowhere
 */
export async function destination(names) {
  const { showSaveFilePicker, showDirectoryPicker } = /** @type {any} */ (window);
  if (!showSaveFilePicker) return async (name, blob) => saveByLink(name, blob);
  /** @type {(name: string) => Promise<FileSystemFileHandle>} */
  let handleOf;
  try {
    if (names.length === 1) {
      const types = [{ description: "GGUF model", accept: { "application/octet-stream": [".gguf"] } }];
      const handle = await showSaveFilePicker({ suggestedName: names[0], types });
      handleOf = async () => handle;
    } else {
      const folder = await showDirectoryPicker({ mode: "readwrite" });
      handleOf = (name) => folder.getFileHandle(name, { create: true });
    }
  } catch (error) {
    if (/** @type {Error} */ (error).name === "AbortError") return null; // the visitor closed it
    throw error;
  }
  return async (name, blob, onProgress, signal) => {
    let written = 0;
    const count = new TransformStream({
      transform(/** @type {Uint8Array} */ bytes, stream) {
        stream.enqueue(bytes);
        onProgress((written += bytes.length));
      },
    });
    // An abort leaves what was in the file before: the browser writes beside it until the end.
    const file = await (await handleOf(name)).createWritable();
    await blob.stream().pipeThrough(count).pipeTo(file, { signal });
  };
}

/** @param {string} name @param {Blob} blob */
function saveByLink(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), REVOKE_MS);
}

/** A file's name that no system stumbles over. @param {string} id */
function exportName(id) {
  const name = fileName(id)
    .replace(/[\p{Cc}\\/:*?"<>|]/gu, "_")
    .replace(/^\.+/, "")
    .replace(/\.gguf$/i, "");
  return `${name || "model"}.gguf`;
}

/** Puts a file into the storage. @param {File} file @param {string | undefined} as the model that it is @param {OnProgress} onProgress @param {AbortSignal} signal */
export function importFile(file, as, onProgress, signal) {
  return Outcrop.import(file, { as, signal, onProgress: ({ loaded, total }) => onProgress(loaded, total) });
}
