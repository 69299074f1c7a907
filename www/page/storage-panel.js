// @ts-check
// What this browser has stored: the models, how much room they take, whether the browser will keep them, and files in and out.

import { Outcrop } from "../outcrop.js";
import { SMALL, byStored, isImported, same } from "./choices.js";
import { fill, keyed, modelRow } from "./model-row.js";
import { button, paragraph } from "./parts.js";
import { share } from "./progress.js";
import { Transfer, destination, filesOf, importFile } from "./transfer.js";
import { ago, explain, size } from "./words.js";

/** Another tab that has said nothing for so long downloads no more. */
const SILENT_MS = 5000;

/**
 * @typedef {import("./choices.js").Choice} Choice
 * @typedef {import("./choices.js").KnownModel} KnownModel
 * @typedef {import("./choices.js").StoredModel} StoredModel
 * @typedef {{loaded: number, total: number | null, timer: number}} Elsewhere
 */

export class StoragePanel {
  /** @type {StoredModel[]} */
  stored = [];
  /** Whether the browser has promised to keep what is stored; null: it does not say. @type {boolean | null} */
  persisted = null;
  #section;
  #list;
  #hooks;
  #transfer;
  /** @type {KnownModel[]} */
  #catalogue = [];
  /** @type {Choice | null} */
  #current = null;
  #loading = false;
  /** The model that is about to be deleted. @type {string | null} */
  #doomed = null;
  #soon = 0;
  /** Downloads of other tabs, by the model's id. @type {Map<string, Elsewhere>} */
  #elsewhere = new Map();

  /**
   * @param {HTMLElement} section
   * @param {object} hooks
   * @param {(choice: Choice) => void} hooks.use
   * @param {(text: string, ...more: Node[]) => void} hooks.note says what happened
   * @param {() => void} hooks.changed what is stored is not what it was
   */
  constructor(section, hooks) {
    this.#section = section;
    this.#hooks = hooks;
    this.#list = this.#find("#stored-list");
    this.#transfer = new Transfer(this.#find("#transfer"));
    const file = /** @type {HTMLInputElement} */ (this.#find("#import-file"));
    this.#find("#import").addEventListener("click", () => file.click());
    file.addEventListener("change", () => {
      const picked = file.files?.[0];
      file.value = ""; // the same file may be picked again
      if (picked) this.#import(picked);
    });
    this.#find("#keep").addEventListener("click", () => this.#keep());
    this.#listen();
  }

  /** @param {KnownModel[]} catalogue @param {Choice | null} current @param {boolean} loading it is on its way */
  draw(catalogue = this.#catalogue, current = this.#current, loading = this.#loading) {
    [this.#catalogue, this.#current, this.#loading] = [catalogue, current, loading];
    fill(this.#list, this.stored.map((model) => (model.id === this.#doomed ? this.#question(model) : this.#row(model))));
    this.#find("#stored-none").hidden = this.stored.length > 0;
    /** @type {HTMLButtonElement} */ (this.#find("#import")).disabled = this.#transfer.running;
  }

  /** Looks again. */
  async refresh() {
    const [stored, storage] = await Promise.all([Outcrop.models(), Outcrop.storage()]);
    this.stored = stored.sort((a, b) => (b.used_ms ?? 0) - (a.used_ms ?? 0));
    if (!stored.some(({ id }) => id === this.#doomed)) this.#doomed = null;
    this.#drawSpace(storage);
  }

  /** For a visitor who came to make room. */
  focus() {
    this.#section.focus();
    this.#section.scrollIntoView({ block: "start" });
  }

  /** @param {StoredModel} model */
  #row(model) {
    const choice = byStored(model, this.#catalogue);
    const current = this.#current !== null && same(this.#current, choice);
    const elsewhere = this.#elsewhere.get(model.id);
    const state = [
      ...(model.complete ? [] : elsewhere ? [`Another tab is downloading it: ${share(elsewhere.loaded, elsewhere.total)}`] : [`${share(model.bytes, model.total)}, partly`]),
      ...(model.parts > 1 ? [`${model.parts} parts`] : []),
      ...(model.used_ms ? [`Used ${ago(model.used_ms)}`] : []),
    ].join(" · ");
    const busy = current && this.#loading;
    const use = current ? (busy ? "Loading" : "In use") : model.complete ? "Use" : "Continue";
    // An import that was not finished goes on from nowhere.
    const possible = !current && (model.complete || !isImported(model.id));
    const remove = { label: "Delete", name: `Delete ${choice.name} from this browser`, act: () => this.#askToDelete(model) };
    const save = { label: "Export", name: `Export ${choice.name} as a file`, act: () => this.#export(model, choice.name) };
    const actions = [...(model.complete && filesOf(model).length ? [save] : []), ...(busy ? [] : [remove])];
    return modelRow({ ...choice, bytes: model.total ?? choice.bytes }, { use, act: possible ? () => this.#hooks.use(choice) : null, current, state: state || "Stored", actions });
  }

  /** The same row, while it is not certain that it will stay. @param {StoredModel} model */
  #question(model) {
    const { name } = byStored(model, this.#catalogue);
    const again = isImported(model.id) ? "Without its file it does not come back." : "It can be downloaded again.";
    const item = document.createElement("li");
    item.className = "doomed";
    const stay = () => {
      this.#doomed = null;
      this.draw();
      this.#focus(`Delete ${byStored(model, this.#catalogue).query}`);
    };
    item.append(
      paragraph("name", `Delete ${name}?`),
      paragraph("hint about", `This frees ${size(model.bytes)}. ${again}`),
      paragraph(
        "buttons",
        keyed(button("button", { label: "Keep", name: `Keep ${name}`, act: stay }), "keep"),
        keyed(button("button danger", { label: "Delete", name: `Yes, delete ${name}`, act: () => this.#delete(model, name) }), "delete"),
      ),
    );
    return item;
  }

  /** @param {StoredModel} model */
  #askToDelete(model) {
    if (model.bytes <= SMALL && !isImported(model.id)) return this.#delete(model, byStored(model, this.#catalogue).name);
    this.#doomed = model.id;
    this.draw();
    this.#focus("keep");
  }

  /** @param {StoredModel} model @param {string} name */
  async #delete(model, name) {
    const inUse = this.#current !== null && same(this.#current, byStored(model, this.#catalogue));
    this.#doomed = null;
    await this.#try(async () => {
      await Outcrop.delete(model.id);
      this.#hooks.note(`${name} was deleted from this browser: ${size(model.bytes)} freed.${inUse ? " In this tab it stays loaded." : ""}`);
    });
    this.#section.focus({ preventScroll: true }); // the button is gone
  }

  /** @param {StoredModel} model @param {string} name */
  async #export(model, name) {
    if (this.#transfer.running) return;
    const files = filesOf(model);
    await this.#try(async () => {
      const write = await destination(files.map(({ name }) => name));
      if (!write) return;
      const done = this.#transfer.run(`Exporting ${name}`, async (onProgress, signal) => {
        let before = 0;
        for (const { id, name } of files) {
          const { blob } = await Outcrop.export(id);
          signal.throwIfAborted();
          await write(name, blob, (loaded) => onProgress(before + loaded, model.bytes), signal);
          before += blob.size;
        }
        return true;
      });
      this.draw();
      this.#hooks.note((await done) ? `${name} was exported${files.length === 1 ? "" : `: ${files.length} files`}.` : `The export of ${name} was stopped.`);
    });
  }

  /** @param {File} file @param {boolean} [known] whether it may be taken for a known model */
  async #import(file, known = true) {
    if (this.#transfer.running) return;
    const model = known ? published(file, this.#catalogue) : undefined;
    await this.#try(async () => {
      const done = this.#transfer.run(`Importing ${file.name}`, (onProgress, signal) => importFile(file, model?.id, onProgress, signal));
      this.draw();
      try {
        const stored = await done;
        if (stored) this.#hooks.note(`${byStored(stored, this.#catalogue).name} is stored in this browser.`);
        else this.#hooks.note(`The import of ${file.name} was stopped.`);
      } catch (error) {
        if (!model || /** @type {any} */ (error).code !== "digest_mismatch") throw error;
        const other = button("link", { label: "Import it under its own name", act: () => this.#import(file, false) });
        this.#hooks.note(`${file.name} looks like ${model.name}, but is not the file that was published. `, other);
      }
    });
  }

  async #keep() {
    const kept = await Outcrop.persist().catch(() => false);
    await this.refresh().catch(() => {});
    const hint = "Browsers decide by how much a site is used: a bookmark of this page may help.";
    this.#hooks.note(kept ? "This browser has promised to keep what is stored." : `This browser did not promise it. ${hint}`);
  }

  /** Does something to the storage, says what went wrong, and looks again. @param {() => Promise<void>} task */
  async #try(task) {
    try {
      await task();
    } catch (error) {
      const { title, text } = explain(error);
      this.#hooks.note(`${title}. ${text}`);
    }
    this.draw();
    this.#changed();
  }

  /** What is stored is not what it was; several such news, as of the parts of a split model, are one. */
  #changed() {
    clearTimeout(this.#soon);
    this.#soon = window.setTimeout(() => this.#hooks.changed(), 100);
  }

  /** @param {import("../outcrop.js").Storage} storage */
  #drawSpace({ usage, quota, free, persisted }) {
    this.persisted = persisted;
    const space = this.#find("#space");
    space.textContent = [...(usage === null ? [] : [`${size(usage)} used`]), ...(free === null ? [] : [`${size(free)} free`])].join(" · ");
    const meter = /** @type {HTMLMeterElement} */ (this.#find("#space-meter"));
    meter.hidden = usage === null || !quota;
    if (usage !== null && quota) meter.value = Math.min(1, usage / quota);
    this.#find("#promise-text").textContent =
      persisted === null || this.stored.length === 0 ? "" : persisted ? "This browser has promised to keep them." : "This browser may delete them when the disk fills up.";
    this.#find("#keep").hidden = persisted !== false || this.stored.length === 0;
  }

  /** All tabs, this one's worker too, tell what they download, and what was stored or deleted. */
  #listen() {
    const channel = new BroadcastChannel("outcrop");
    channel.addEventListener("message", ({ data }) => {
      const { type, id, loaded, total } = data ?? {};
      if (type === "progress" && Number.isFinite(loaded)) this.#grow(id, loaded, Number.isFinite(total) ? total : null);
      if (type !== "stored" && type !== "deleted") return;
      this.#forget(id);
      this.#changed();
    });
  }

  /** @param {string} id @param {number} loaded @param {number | null} total */
  #grow(id, loaded, total) {
    const model = this.stored.find((model) => model.id === id);
    if (!model || model.complete) return;
    if (this.#loading && this.#current && same(this.#current, byStored(model, this.#catalogue))) {
      Object.assign(model, { bytes: loaded, total });
    } else {
      this.#forget(id);
      const timer = window.setTimeout(() => (this.#forget(id), this.draw()), SILENT_MS);
      this.#elsewhere.set(id, { loaded, total, timer });
    }
    this.draw();
  }

  /** @param {string} id */
  #forget(id) {
    clearTimeout(this.#elsewhere.get(id)?.timer);
    this.#elsewhere.delete(id);
  }

  /** @param {string} key */
  #focus(key) {
    /** @type {HTMLElement | null} */ (this.#list.querySelector(`[data-key="${CSS.escape(key)}"]`))?.focus();
  }

  /** @param {string} selector @returns {HTMLElement} */
  #find(selector) {
    return /** @type {HTMLElement} */ (this.#section.querySelector(selector));
  }
}

/** The known model that a file seems to be: it has its name, as downloads get it, or its exact size. @param {File} file @param {KnownModel[]} catalogue */
function published(file, catalogue) {
  const plain = file.name.replace(/ ?\(\d+\)(?=\.gguf$)/i, "");
  return catalogue.find(({ url }) => url.endsWith(`/${plain}`)) ?? catalogue.find(({ bytes }) => bytes === file.size);
}
