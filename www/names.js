// @ts-check
// Which model: from what a caller gives to where its bytes are. Pure functions; nothing is fetched here.
//
//   granite-4.0-h-micro, h-1b, ai/granite-4.0-h-micro:3B-Q4_K_M   a name of models.json, in upper or lower case
//   https://.., models/x.gguf                                     an address; a relative one is the page's
//   hf:owner/repo[@revision]/path/file.gguf                       a file on the Hugging Face Hub
//   https://../v2/owner/repo/blobs/sha256:<64 digits>             a blob of an OCI registry, whose address is its digest
//   ..-00002-of-00003.gguf                                        any part of a split model means all of them
//   Blob, {file}, {files}                                         files of the visitor's
//   {stored}                                                      what this browser has stored, never the network
//
// What is said of a file beside its address (mirrors, digests, sizes) is checked here: a slip of the pen in it would otherwise
// look like a damaged download.

import { OutcropError } from "./errors.js";

/**
 * @typedef {object} Published a file on the network, and what is known of it
 * @property {string | URL} url
 * @property {(string | URL)[] | null} [mirrors] further addresses of the very same file. Only with a digest are their bytes mixed
 * @property {string | null} [sha256] of the whole file, 64 hexadecimal digits. A download with another digest is refused
 * @property {number | null} [bytes] its size
 * @property {{bytes: number, sha256: string[]} | null} [chunks] digests of its pieces of so many bytes each, in order: what is wrong
 *   is then found, and fetched again, piece by piece
 *
 * @typedef {string | URL | Blob | (Published & {name?: string}) | {parts: Published[], name?: string} | {file: Blob, name?: string}
 *   | {files: Iterable<Blob>, name?: string} | {stored: string, name?: string}} ModelSource
 *   as at the top of this file. `parts`: those of a split model, in order; `files`: all parts of one, in any order; `stored`: the `id` of a
 *   stored model
 *
 * @typedef {object} KnownModel an entry of models.json. Its addresses are relative to that file there, and absolute once they are read
 * @property {string} id the name to load it by
 * @property {string[]} [aliases] other names; those with a colon are the id's tags, as in "granite-4.0-h-micro:3B", and go with each name
 * @property {string} name for people
 * @property {string} [family] of models that differ in size alone, so that one may be offered in place of another
 * @property {string} url of the file; of a split model its first part's, which may be left out
 * @property {number} bytes size of the download, all parts together
 * @property {string[]} [mirrors] as in `Published`, like the next two
 * @property {string} [sha256]
 * @property {{bytes: number, sha256: string[]}} [chunks]
 * @property {Published[]} [parts] of a split model, in order; it then has no `mirrors`, `sha256` and `chunks` of its own
 * @property {string} description
 * @property {string[]} examples prompts that suit it
 *
 * @typedef {import("./worker.js").Remote} Remote
 * @typedef {import("./worker.js").Source} Where the fields of the worker's load options that say where the bytes are
 * @typedef {{id: string | null, name: string, where: Where}} Source `id`: in models.json
 *
 * @typedef {() => Promise<KnownModel[]>} Catalogue asked only when a name is to be looked up
 */

/** A name with its tag, as model cards write them. */
const NAME = /^(?:ai\/)?([\w.-]+)(?::([\w.-]+))?$/i;
/** The file of a split model's part, as llama.cpp names them. */
const PART = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/i;
/** The address of an OCI blob: its repository's last name, and its digest. */
const BLOB = /([^/]+)\/blobs\/sha256(?::|%3[aA])([0-9a-f]{64})$/;
const HUB = /^hf:(?:\/\/)?([\w.-]+)\/([\w.-]+)(?:@((?:[\w.-]|%2f)+))?\/(.+\.gguf)$/i;
/** More parts than models have: a name must not have us ask for a hundred thousand files. */
const MOST_PARTS = 999;

/** @param {string} text */
const invalid = (text) => new OutcropError("invalid_request", text);
/** @param {string} text */
const torn = (text) => new OutcropError("split_file", text);

/**
 * Where a model's bytes are.
 *
 * @param {ModelSource} model
 * @param {string} base what addresses are relative to
 * @param {Catalogue} catalogue
 * @returns {Promise<Source>} rejects with `unknown_model`, `invalid_request` or `split_file`
 */
export async function sourceOf(model, base, catalogue) {
  if (typeof model === "string") {
    const text = model.trim();
    return isName(text) ? fromKnown(find(await catalogue(), text)) : fromPublished({ url: text }, base);
  }
  if (model instanceof URL) return fromPublished({ url: model }, base);
  if (model instanceof Blob) return fromFiles([model]);
  if (typeof model !== "object" || !model) throw invalid(`${model} is no model: give a name, an address or a file`);
  const { name } = model;
  const named = (/** @type {Source} */ source) => (name === undefined ? source : { ...source, name });
  if ("url" in model) return named(fromPublished(model, base));
  if ("parts" in model) return named(fromParts(model.parts, base));
  if ("file" in model) return named(fromFiles([model.file]));
  if ("files" in model) return named(fromFiles(Array.from(model.files ?? [])));
  if ("stored" in model && typeof model.stored === "string") return named(fromStored(model.stored));
  throw invalid("a model is a name, an address, a file, or an object with url, parts, file, files or stored");
}

/**
 * Where a file that is imported belongs: the address that it will be stored under, and what is published of it.
 *
 * @param {string | URL} as the name of a known model, or an address
 * @param {Blob & {name?: string}} file
 * @param {string} base
 * @param {Catalogue} catalogue
 * @returns {Promise<Remote & {name?: string}>}
 */
export async function placeOf(as, file, base, catalogue) {
  const text = String(as).trim();
  if (!isName(text)) return published({ url: text }, base, text);
  const model = find(await catalogue(), text);
  const { where } = fromKnown(model);
  if (!where.parts) return { .../** @type {Remote} */ (where), name: model.id };
  const part = where.parts[(partOf(file.name ?? "")?.part ?? 0) - 1];
  if (!part) throw torn(`${model.id} is split into ${where.parts.length} files: import each by its own name, which says which part it is`);
  return { ...part, name: model.id };
}

/** Whether this is looked up in models.json; all else is an address, which needs no other file to be fetched first. @param {string} text */
const isName = (text) => NAME.test(text) && !/^hf:|\.gguf$/i.test(text);

// ---- known models ----

/**
 * Reads models.json.
 *
 * @param {any} json
 * @param {string} address its own
 * @returns {KnownModel[]} with absolute addresses
 */
export function readCatalogue(json, address) {
  const wrong = (/** @type {string} */ what) => new OutcropError("bad_response", `${address} is no list of models: ${what}`);
  if (!Array.isArray(json?.models)) throw wrong("it has no array `models`");
  const absolute = (/** @type {Published} */ file) => ({
    ...file,
    url: addressOf(file.url, address),
    ...(file.mirrors && { mirrors: file.mirrors.map((mirror) => addressOf(mirror, address)) }),
  });
  return json.models.map((/** @type {any} */ model) => {
    if (typeof model?.id !== "string") throw wrong("a model has no id");
    try {
      const parts = model.parts?.map(absolute);
      return { ...absolute({ ...model, url: model.url ?? parts?.[0]?.url }), ...(parts && { parts }) };
    } catch (error) {
      throw wrong(`${model.id}: ${error instanceof Error ? error.message : error}`);
    }
  });
}

/** @param {KnownModel[]} catalogue @param {string} text @returns {KnownModel} */
function find(catalogue, text) {
  const [, name = "", tag] = NAME.exec(text.toLowerCase()) ?? [];
  for (const model of catalogue) {
    const aliases = model.aliases ?? [];
    const names = [model.id, ...aliases.filter((alias) => !alias.includes(":"))];
    if (!names.some((known) => known.toLowerCase() === name)) continue;
    const tags = aliases.filter((alias) => alias.includes(":"));
    if (tag === undefined || tags.some((known) => known.split(":")[1]?.toLowerCase() === tag)) return model;
    const others = tags.length ? `there are ${tags.join(", ")}` : `load it as ${model.id}`;
    throw new OutcropError("unknown_model", `there is no ${text} here: ${others}`);
  }
  const ids = catalogue.map(({ id }) => id).join(", ");
  throw new OutcropError("unknown_model", `there is no model called ${text} here: there are ${ids}; or give an address, ending in .gguf`);
}

/** @param {KnownModel} model @returns {Source} */
function fromKnown(model) {
  const { id, parts } = model;
  const whose = `${id} in models.json`;
  return { ...(parts ? fromParts(parts, model.url, whose) : fromPublished(model, model.url, whose)), id, name: id };
}

// ---- files on the network ----

/** @param {Published} file @param {string} base @param {string} [whose] @returns {Source} */
function fromPublished(file, base, whose) {
  const remote = published(file, base, whose);
  const split = partOf(fileNameOf(remote.url));
  if (!split || split.of === 1) return { id: null, name: titleOfAddress(remote.url), where: remote };
  if (split.part < 1 || split.part > split.of) throw torn(`${remote.url} is part ${split.part} of ${split.of}: there is no such part`);
  if (split.of > MOST_PARTS) throw torn(`${remote.url} is one of ${split.of} parts; more than ${MOST_PARTS} are not loaded`);
  const { mirrors = [], sha256, bytes, chunks } = remote;
  if (sha256 ?? bytes ?? chunks) throw invalid(`${whose ?? remote.url}: sha256, bytes and chunks are those of one file: give them for each part, in \`parts\``);
  const odd = mirrors.find((mirror) => partOf(fileNameOf(mirror))?.of !== split.of);
  if (odd) throw torn(`${odd} is no mirror of ${remote.url}: it is not split into ${split.of} parts`);
  const parts = Array.from({ length: split.of }, (_, i) => ({
    url: sibling(remote.url, i + 1),
    ...(mirrors.length && { mirrors: mirrors.map((mirror) => sibling(mirror, i + 1)) }),
  }));
  return { id: null, name: titleOfAddress(remote.url), where: { parts } };
}

/** @param {Published[]} list @param {string} base @param {string} [whose] @returns {Source} */
function fromParts(list, base, whose = "the model") {
  if (!Array.isArray(list) || !list.length) throw invalid(`${whose}: parts must be an array of {url, ..}, one a file`);
  const parts = list.map((part, i) => published(part, base, `part ${i + 1} of ${whose}`));
  for (const [i, { url }] of parts.entries()) {
    const split = partOf(fileNameOf(url));
    if (split && (split.part !== i + 1 || split.of !== parts.length)) throw torn(`${url} cannot be part ${i + 1} of ${parts.length}`);
  }
  const [first] = /** @type {[Remote, ...Remote[]]} */ (parts);
  return { id: null, name: titleOfAddress(first.url), where: parts.length === 1 ? first : { parts } };
}

/**
 * What is said of a file, checked.
 *
 * @param {Published} file
 * @param {string} base
 * @param {string} [whose] in words, for errors
 * @returns {Remote}
 */
function published(file, base, whose = String(file?.url)) {
  const { url: said, mirrors: others, sha256, bytes, chunks } = file ?? {};
  const url = addressOf(said, base);
  if (others != null && !Array.isArray(others)) throw invalid(`${whose}: mirrors must be an array of addresses`);
  const mirrors = [...new Set((others ?? []).map((mirror) => addressOf(mirror, base)))].filter((mirror) => mirror !== url);
  const digests = new Set([url, ...mirrors].flatMap((address) => BLOB.exec(pathOf(address))?.[2] ?? []));
  if (sha256 != null) digests.add(digestOf(sha256, `${whose}: sha256`));
  if (digests.size > 1) throw invalid(`${whose}: one file cannot have the digests ${[...digests].join(" and ")}`);
  if (bytes != null && !isCount(bytes)) throw invalid(`${whose}: bytes is ${JSON.stringify(bytes)}, it must be a whole number above 0`);
  const [digest] = digests;
  return {
    url,
    ...(mirrors.length && { mirrors }),
    ...(digest && { sha256: digest }),
    ...(bytes != null && { bytes }),
    ...(chunks != null && { chunks: chunksOf(chunks, bytes ?? null, `${whose}: chunks`) }),
  };
}

/** @param {any} chunks @param {number | null} total @param {string} what */
function chunksOf({ bytes, sha256 }, total, what) {
  if (!isCount(bytes)) throw invalid(`${what}.bytes is ${JSON.stringify(bytes)}, it must be a whole number above 0`);
  if (!Array.isArray(sha256)) throw invalid(`${what}.sha256 must be an array of digests`);
  const n = total === null ? sha256.length : Math.ceil(total / bytes);
  if (sha256.length !== n || n === 0) throw invalid(`${what}: ${sha256.length} digests, it must be ${n || "one"} for each ${bytes} bytes`);
  return { bytes, sha256: sha256.map((digest, i) => digestOf(digest, `${what}.sha256[${i}]`)) };
}

/** @param {unknown} digest @param {string} what @returns {string} in lower case */
function digestOf(digest, what) {
  const [, hex] = /^(?:sha256:)?([0-9a-f]{64})$/i.exec(typeof digest === "string" ? digest : "") ?? [];
  if (!hex) throw invalid(`${what} is ${JSON.stringify(digest)}, it must be 64 hexadecimal digits`);
  return hex.toLowerCase();
}

/** @param {unknown} value @returns {value is number} */
const isCount = (value) => Number.isSafeInteger(value) && /** @type {number} */ (value) > 0;

/** @param {unknown} said @param {string} base @returns {string} absolute */
function addressOf(said, base) {
  const text = typeof said === "string" ? said.trim() : said instanceof URL ? said.href : "";
  if (/^hf:/i.test(text)) return hubAddress(text);
  try {
    const url = new URL(text, base);
    if (text && ["http:", "https:", "blob:"].includes(url.protocol)) return url.href;
  } catch {
    // said below
  }
  throw invalid(`${text || JSON.stringify(said)} is not the address of a model`);
}

/** `hf:owner/repo@revision/path/file.gguf`, the names as the Hub shows them; a slash within a revision is `%2F`. @param {string} text */
function hubAddress(text) {
  const [, owner = "..", repo = "..", revision = "main", path = ".."] = HUB.exec(text) ?? [];
  const file = path.split("/");
  if ([owner, repo, revision, ...file].some((name) => /^\.{0,2}$/.test(name))) {
    throw invalid(`${text} is no file on the Hugging Face Hub: it must be hf:owner/repo/path/file.gguf, or hf:owner/repo@revision/path/file.gguf`);
  }
  return `https://huggingface.co/${owner}/${repo}/resolve/${revision}/${file.map(encodeURIComponent).join("/")}`;
}

// ---- files of the visitor's ----

/** @param {(Blob & {name?: string})[]} files @returns {Source} */
function fromFiles(files) {
  if (!files.length || !files.every((file) => file instanceof Blob)) throw invalid("a model's files must be Files or Blobs, at least one");
  const nameOf = (/** @type {Blob & {name?: string}} */ { name = "" }) => name;
  // Parts sort by name; what has none stays in the order in which it was given. Whether they fit together their headers say.
  const sorted = [...files].sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : nameOf(a) > nameOf(b) ? 1 : 0));
  checkParts(sorted.map(nameOf));
  const [first] = /** @type {[Blob, ...Blob[]]} */ (sorted);
  return { id: null, name: titleOf(nameOf(first)) || "file", where: sorted.length === 1 ? { file: first } : { files: sorted } };
}

/** Throws unless these are all the parts of one model, as far as names tell. @param {string[]} names sorted */
function checkParts(names) {
  const parts = names.map(partOf);
  const one = parts.find((part) => part !== null);
  if (!one) return;
  const odd = names.find((_, i) => parts[i]?.stem !== one.stem || parts[i]?.of !== one.of);
  if (odd !== undefined) throw torn(`${odd || "a file without a name"} is no part of ${one.stem}: a split model's files differ in their number alone`);
  const numbers = new Set(parts.map((part) => part?.part));
  const missing = Array.from({ length: Math.min(one.of, MOST_PARTS) }, (_, i) => i + 1).filter((part) => !numbers.has(part));
  if (!missing.length && names.length === one.of) return;
  const few = missing.length <= 4 ? missing.join(", ") : `${missing.slice(0, 3).join(", ")} and ${missing.length - 3} more`;
  throw torn(`${one.stem} is split into ${one.of} files, to be opened together: ${missing.length ? `missing: ${few}` : `there are ${names.length}`}`);
}

/** @param {string} id @returns {Source} */
function fromStored(id) {
  const name = id.startsWith("file:") ? titleOf(id.slice("file:".length)) : titleOfAddress(id);
  return { id: null, name: name || id, where: { stored: id } };
}

// ---- the names of files ----

/**
 * What the name of a split model's part says.
 *
 * @param {string} name of a file
 * @returns {{stem: string, part: number, of: number} | null}
 */
export function partOf(name) {
  const [, stem, part, of] = PART.exec(name) ?? [];
  return stem === undefined ? null : { stem, part: Number(part), of: Number(of) };
}

/** The address of another part. @param {string} address @param {number} part */
function sibling(address, part) {
  const url = new URL(address);
  url.pathname = url.pathname.replace(/-\d{5}(-of-\d{5}\.gguf)$/i, `-${String(part).padStart(5, "0")}$1`);
  return url.href;
}

/** What a model is called after its file. @param {string} name of a file */
const titleOf = (name) => partOf(name)?.stem || name.replace(/\.gguf$/i, "");

/** The same: `https://host/x/granite-Q4_K_M.gguf?download=1` -> `granite-Q4_K_M`. @param {string} address */
const titleOfAddress = (address) => BLOB.exec(pathOf(address))?.[1] ?? (titleOf(fileNameOf(address)) || address);

/** An address without what follows its path. @param {string} address */
const pathOf = (address) => address.split(/[?#]/)[0] ?? "";

/** The last part of an address. @param {string} address */
function fileNameOf(address) {
  const last = pathOf(address).split("/").pop() ?? "";
  try {
    return decodeURIComponent(last);
  } catch {
    return last; // a per cent sign that stands for itself
  }
}
