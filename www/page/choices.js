// @ts-check
// What the page can load, from wherever it comes: a known model, an address, a name, files, or this browser's storage.

import { partOf } from "../names.js";
import { Outcrop } from "../outcrop.js";

/**
 * @typedef {import("../names.js").KnownModel} KnownModel
 * @typedef {import("../names.js").ModelSource} ModelSource
 * @typedef {import("../outcrop.js").StoredModel} StoredModel
 *
 * @typedef {object} Choice a model that can be loaded
 * @property {string} name for people
 * @property {ModelSource} source what Outcrop.load takes
 * @property {string | null} query its name or address in the page's own address; null for a file
 * @property {string} [id] in models.json
 * @property {string} [url]
 * @property {number} [bytes]
 * @property {boolean} [complete] all of it is stored
 * @property {string} [description]
 * @property {string[]} [examples]
 */

/** Models up to this many bytes are downloaded, and deleted, without asking: they come back in a moment. */
export const SMALL = 20e6;

/** How the ids of models begin that were imported and have no address. */
const IMPORTED = "file:";

/** @param {KnownModel} model @returns {Choice} */
export const known = (model) => ({ ...model, source: model.id, query: model.id });

/** @param {string} url @returns {Choice} */
export const byUrl = (url) => ({ name: title(fileName(url)) || url, source: { url }, query: url, url });

/** @param {File[]} files one, or all parts of a split model @returns {Choice} */
export function byFiles(files) {
  const name = title(files[0]?.name ?? "");
  const bytes = files.reduce((sum, file) => sum + file.size, 0);
  return { name, source: files.length === 1 ? /** @type {File} */ (files[0]) : { files }, query: null, bytes };
}

/** @param {StoredModel} stored @param {KnownModel[]} catalogue @returns {Choice} */
export function byStored(stored, catalogue) {
  const { complete, total, bytes } = stored;
  const model = catalogue.find(({ url }) => url === stored.url || url === stored.id);
  if (model) return { ...known(model), complete };
  return { ...(isImported(stored.id) ? imported(stored.id) : byUrl(stored.id)), bytes: total ?? bytes, complete };
}

/** Whether two choices are one model. @param {Choice} a @param {Choice} b */
export const same = (a, b) => (a.query !== null && a.query === b.query) || (a.url !== undefined && a.url === b.url);

/** @param {string} id of a stored model */
export const isImported = (id) => id.startsWith(IMPORTED);

/**
 * What a name in the page's address means: a known model, an alias, `hf:owner/repo/file.gguf`, an address, or a stored import.
 *
 * @param {string} text
 * @returns {Promise<Choice>}
 */
export async function byName(text) {
  if (isImported(text)) return imported(text);
  const { id, name, url } = await Outcrop.resolve(text);
  const model = id === null ? undefined : (await Outcrop.catalogue()).find((known) => known.id === id);
  return model ? known(model) : { name, source: text, query: text, url: url ?? undefined };
}

/** @param {string} id of a model that was imported @returns {Choice} */
const imported = (id) => ({ name: title(fileName(id)) || "Imported model", source: { stored: id }, query: id });

/** The last part of an address or of a path, as people read it. @param {string} path */
export function fileName(path) {
  const last = path.replace(IMPORTED, "").split(/[?#]/)[0]?.split("/").pop() ?? "";
  try {
    return decodeURIComponent(last);
  } catch {
    return last; // a per cent sign of its own
  }
}

/** A model's name after its file: of a split one, without the number of the part. @param {string} file */
const title = (file) => partOf(file)?.stem ?? file.replace(/\.gguf$/i, "");
