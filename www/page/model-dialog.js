// @ts-check
// The models dialog: what can be loaded (known, stored, a file, an address), where it runs, and what is stored.

import { Outcrop } from "../outcrop.js";
import { explain, size } from "./words.js";

/**
 * @typedef {import("../outcrop.js").KnownModel} KnownModel
 * @typedef {import("../outcrop.js").StoredModel} StoredModel
 * @typedef {import("../outcrop.js").ModelSource} ModelSource
 * @typedef {"auto" | "webgpu" | "cpu"} Backend
 *
 * @typedef {object} Choice a model that can be loaded
 * @property {string} name for people
 * @property {ModelSource} source what Outcrop.load takes
 * @property {string | null} query its name or address in the page's own address; null for a file
 * @property {string} [id] in models.json
 * @property {string} [url]
 * @property {number} [bytes]
 * @property {string} [description]
 * @property {string[]} [examples]
 */

/** @param {KnownModel} model @returns {Choice} */
export const known = (model) => ({ ...model, source: model.id, query: model.id });

/** @param {string} url @returns {Choice} */
export function byUrl(url) {
  const name = decodeURIComponent(url.split(/[?#]/)[0]?.split("/").pop() ?? "").replace(/\.gguf$/i, "");
  return { name: name || url, source: { url }, query: url, url };
}

/** @param {File} file @returns {Choice} */
export const byFile = (file) => ({ name: file.name.replace(/\.gguf$/i, ""), source: file, query: null, bytes: file.size });

export class ModelDialog {
  #dialog;
  #choose;
  #list;
  #note;
  /** @type {KnownModel[]} */
  #known = [];
  /** @type {StoredModel[]} */
  #stored = [];
  /** What is loaded or being loaded. @type {Choice | null} */
  #current = null;

  /**
   * @param {HTMLDialogElement} dialog
   * @param {(choice: Choice) => void} choose
   * @param {(backend: Backend) => void} changeBackend
   */
  constructor(dialog, choose, changeBackend) {
    this.#dialog = dialog;
    this.#choose = choose;
    this.#list = /** @type {HTMLElement} */ (dialog.querySelector("#model-list"));
    this.#note = /** @type {HTMLElement} */ (dialog.querySelector("#model-list-note"));

    const file = /** @type {HTMLInputElement} */ (dialog.querySelector("#file"));
    dialog.querySelector("#open-file")?.addEventListener("click", () => file.click());
    file.addEventListener("change", () => {
      const picked = file.files?.[0];
      file.value = ""; // the same file may be picked again
      if (picked) this.#take(byFile(picked));
    });

    const form = /** @type {HTMLFormElement} */ (dialog.querySelector("#url-form"));
    const url = /** @type {HTMLInputElement} */ (dialog.querySelector("#url"));
    const problem = /** @type {HTMLElement} */ (dialog.querySelector("#url-error"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const address = webAddress(url.value.trim());
      problem.textContent = address ? "" : "That is not an address. It begins with https:// and leads to a .gguf file.";
      if (address) this.#take(byUrl(address));
      else url.focus();
    });

    dialog.querySelector("#backend")?.addEventListener("change", () => changeBackend(this.backend));
  }

  /** @returns {Backend} */
  get backend() {
    const checked = /** @type {HTMLInputElement | null} */ (this.#dialog.querySelector("input[name=backend]:checked"));
    return /** @type {Backend} */ (checked?.value ?? "auto");
  }

  set backend(backend) {
    const input = /** @type {HTMLInputElement | null} */ (this.#dialog.querySelector(`input[name=backend][value=${backend}]`));
    if (input) input.checked = true;
  }

  /** @param {Choice | null} choice @param {string} backendNote what runs where, and why */
  setCurrent(choice, backendNote) {
    this.#current = choice;
    /** @type {HTMLElement} */ (this.#dialog.querySelector("#backend-note")).textContent = backendNote;
    this.#draw();
  }

  async open() {
    this.#note.textContent = "";
    this.#dialog.showModal();
    await this.refresh();
  }

  /** Looks again at what is known and what is stored. */
  async refresh() {
    try {
      this.#known = await Outcrop.catalogue();
      this.#draw();
      this.#stored = await Outcrop.models();
    } catch (error) {
      const { title, text } = explain(error);
      this.#note.textContent = `${title}. ${text}`;
    }
    this.#draw();
  }

  /** @param {string | undefined} url @returns {StoredModel | undefined} */
  #storedAt(url) {
    return url === undefined ? undefined : this.#stored.find((model) => model.url === url);
  }

  /** @param {Choice} choice */
  #take(choice) {
    this.#dialog.close();
    this.#choose(choice);
  }

  #draw() {
    /** @type {Choice[]} */
    const choices = this.#known.map(known);
    for (const model of this.#stored) {
      if (!choices.some(({ url }) => url === model.url)) choices.push({ ...byUrl(model.url), bytes: model.bytes });
    }
    const { activeElement } = document;
    const held = activeElement instanceof HTMLElement && this.#list.contains(activeElement) ? activeElement.dataset.key : undefined;
    this.#list.replaceChildren(...choices.map((choice) => this.#row(choice)));
    // Redrawing must not throw the keyboard back to the start.
    if (held) /** @type {HTMLElement | null} */ (this.#list.querySelector(`[data-key="${CSS.escape(held)}"]`))?.focus();
  }

  /** @param {Choice} choice */
  #row(choice) {
    const stored = this.#storedAt(choice.url);
    const item = document.createElement("li");
    const head = document.createElement("p");
    head.className = "name";
    head.textContent = choice.name;
    const bytes = document.createElement("span");
    bytes.className = "size";
    bytes.textContent = choice.bytes ? size(choice.bytes) : "";
    head.append(" ", bytes);
    const text = document.createElement("p");
    text.className = "hint about";
    text.textContent = choice.description ?? choice.url ?? "";
    if (!choice.description) text.classList.add("address");

    const inUse = this.#current !== null && this.#current.query === choice.query;
    if (inUse) item.setAttribute("aria-current", "true");
    const use = document.createElement("button");
    use.type = "button";
    use.className = "button use";
    use.dataset.key = `use ${choice.query}`;
    use.textContent = inUse ? "In use" : stored?.complete ? "Use" : "Download";
    use.setAttribute("aria-label", `${use.textContent}: ${choice.name}${choice.bytes ? `, ${size(choice.bytes)}` : ""}`);
    use.disabled = inUse;
    use.addEventListener("click", () => this.#take(choice));
    item.append(head, text);
    if (stored) {
      const line = document.createElement("p");
      line.className = "hint stored";
      const remove = document.createElement("button");
      remove.type = "button";
      remove.className = "link";
      remove.textContent = "Delete";
      remove.dataset.key = `delete ${choice.query}`;
      remove.setAttribute("aria-label", `Delete ${choice.name} from this browser`);
      remove.addEventListener("click", () => this.#delete(stored, choice.name));
      line.append(stored.complete ? "Stored in this browser" : "Only partly stored", remove);
      item.append(line);
    }
    item.append(use);
    return item;
  }

  /** @param {StoredModel} stored @param {string} name */
  async #delete(stored, name) {
    try {
      await Outcrop.delete(stored.id);
      this.#note.textContent = `${name} was deleted from this browser: ${size(stored.bytes)} freed.`;
    } catch (error) {
      const { title, text } = explain(error);
      this.#note.textContent = `${title}. ${text}`;
    }
    await this.refresh();
  }
}

/** @param {string} text @returns {string | null} */
function webAddress(text) {
  try {
    const url = new URL(text, document.baseURI);
    return text !== "" && ["http:", "https:"].includes(url.protocol) && /[./]/.test(text) ? url.href : null;
  } catch {
    return null;
  }
}
