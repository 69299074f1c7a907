// @ts-check
// The models dialog: what is stored, what can be downloaded, the visitor's own files and addresses, and where the model runs.

import { Outcrop } from "../outcrop.js";
import { byFiles, byName, byUrl, known, same } from "./choices.js";
import { fill, modelRow } from "./model-row.js";
import { StoragePanel } from "./storage-panel.js";
import { explain } from "./words.js";

/**
 * @typedef {import("./choices.js").Choice} Choice
 * @typedef {import("./choices.js").KnownModel} KnownModel
 * @typedef {"auto" | "webgpu" | "cpu"} Backend
 */

export class ModelDialog {
  #dialog;
  #choose;
  #list;
  #note;
  #panel;
  /** @type {KnownModel[]} */
  #catalogue = [];
  /** What is loaded or being loaded. @type {Choice | null} */
  #current = null;
  #loading = false;
  /** What is stored is known, or cannot be: until then a list would only jump. */
  #looked = false;

  /**
   * @param {HTMLDialogElement} dialog
   * @param {(choice: Choice) => void} choose
   * @param {(backend: Backend) => void} changeBackend
   */
  constructor(dialog, choose, changeBackend) {
    this.#dialog = dialog;
    this.#choose = choose;
    this.#list = this.#find("#model-list");
    this.#note = this.#find("#models-note");
    this.#panel = new StoragePanel(this.#find("#storage"), {
      use: (choice) => this.#take(choice),
      note: (...words) => this.#note.replaceChildren(...words),
      changed: () => dialog.open && this.refresh(),
    });

    const file = /** @type {HTMLInputElement} */ (this.#find("#file"));
    this.#find("#open-file").addEventListener("click", () => file.click());
    file.addEventListener("change", () => {
      const picked = [...(file.files ?? [])];
      file.value = ""; // the same file may be picked again
      if (picked.length) this.#take(byFiles(picked));
    });

    const url = /** @type {HTMLInputElement} */ (this.#find("#url"));
    this.#find("#url-form").addEventListener("submit", async (event) => {
      event.preventDefault();
      const choice = await addressed(url.value.trim());
      this.#find("#url-error").textContent = choice ? "" : "That is not an address. It begins with https:// and leads to a .gguf file, or with hf: and names one.";
      if (choice) this.#take(choice);
      else url.focus();
    });

    this.#find("#backend").addEventListener("change", () => changeBackend(this.backend));
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

  /** @param {Choice | null} choice @param {string} backendNote what runs where, and why @param {boolean} [loading] it is on its way */
  setCurrent(choice, backendNote, loading = false) {
    [this.#current, this.#loading] = [choice, loading];
    this.#find("#backend-note").textContent = backendNote;
    this.#draw();
  }

  /** @param {{space?: boolean}} [why] space: to make room, at the list of what is stored */
  async open({ space = false } = {}) {
    this.#note.textContent = "";
    if (!this.#dialog.open) this.#dialog.showModal();
    if (space) this.#panel.focus();
    await this.refresh();
    if (space) this.#panel.focus();
  }

  /** Looks again at what is known and what is stored. */
  async refresh() {
    try {
      this.#catalogue = await Outcrop.catalogue();
      await this.#panel.refresh();
    } catch (error) {
      const { title, text } = explain(error);
      this.#note.textContent = `${title}. ${text}`;
    }
    this.#looked = true;
    this.#draw();
  }

  /** @param {Choice} choice */
  #take(choice) {
    this.#dialog.close();
    this.#choose(choice);
  }

  #draw() {
    if (!this.#looked) return;
    this.#panel.draw(this.#catalogue, this.#current, this.#loading);
    const missing = this.#catalogue.filter(({ url }) => !this.#panel.stored.some((stored) => stored.url === url));
    this.#find("#more").hidden = missing.length === 0;
    this.#find("#keep-hint").hidden = this.#panel.persisted !== false;
    fill(
      this.#list,
      missing.map(known).map((choice) => {
        const current = this.#current !== null && same(this.#current, choice);
        const use = !current ? "Download" : this.#loading ? "Loading" : "In use";
        return modelRow(choice, { use, act: current ? null : () => this.#take(choice), current });
      }),
    );
  }

  /** @param {string} selector @returns {HTMLElement} */
  #find(selector) {
    return /** @type {HTMLElement} */ (this.#dialog.querySelector(selector));
  }
}

/** What a visitor wrote as an address. @param {string} text @returns {Promise<Choice | null>} */
async function addressed(text) {
  if (/^hf:/i.test(text)) return byName(text).catch(() => null);
  try {
    const url = new URL(text, document.baseURI);
    return text !== "" && ["http:", "https:"].includes(url.protocol) && /[./]/.test(text) ? byUrl(url.href) : null;
  } catch {
    return null;
  }
}
