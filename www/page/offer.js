// @ts-check
// Before a big download: how big it is, whether it fits here, and what the visitor may choose instead. No byte of the model is fetched.

import { Outcrop } from "../outcrop.js";
import { SMALL, isImported, known } from "./choices.js";
import { size } from "./words.js";

/**
 * @typedef {import("./choices.js").Choice} Choice
 * @typedef {import("./choices.js").KnownModel} KnownModel
 * @typedef {import("./load-card.js").Question} Question
 * @typedef {import("../outcrop.js").Preflight} Preflight
 */

const KEEP = "Browsers may delete what sites have stored when the disk fills up. As the download begins, this page asks yours to keep the model.";
/** In localStorage, once the browser was asked to keep what is stored. */
const ASKED = "outcrop.asked-to-keep";

/**
 * What to ask before `choice` is loaded; null: nothing, it is small, or here already, or as good as agreed to.
 *
 * @param {Choice} choice
 * @param {object} how
 * @param {"auto" | "webgpu" | "cpu"} how.backend
 * @param {boolean} how.agreed the visitor has seen the size, and clicked on it
 * @param {(choice: Choice) => void} how.load
 * @param {() => void} how.freeSpace
 * @param {AbortSignal} how.signal ends the looking, and nothing is asked
 * @returns {Promise<Question | null>}
 */
export async function offer(choice, { backend, agreed, load, freeSpace, signal }) {
  if (choice.complete || choice.query === null || isImported(choice.query) || (choice.id && (choice.bytes ?? 0) <= SMALL)) return null;
  // Whatever is wrong with the address, the load will find and say.
  const check = await Outcrop.preflight(choice.source, { backend, signal }).catch(() => null);
  if (!check) return null;
  const { bytes, stored, verdict } = check;
  const left = bytes === null ? null : Math.max(0, bytes - stored);
  if (left !== null && left <= SMALL) return null;
  if (agreed && (verdict === "fits" || (verdict === "slow" && stored > 0))) {
    askToKeep();
    return null;
  }
  const keep = await mayAskToKeep();
  const other = verdict === "fits" || !check.instead ? undefined : (await Outcrop.catalogue()).find(({ id }) => id === check.instead);
  const full = check.reasons.some(({ code }) => code === "no_space");
  /** @param {Choice} taken */
  const take = (taken) => {
    if (keep) askToKeep();
    load(taken);
  };
  const download = { label: verdict === "no" ? "Download anyway" : downloadLabel(left, stored), act: () => take(choice) };
  const actions = other ? [{ label: `Take ${other.name}`, act: () => take(known(other)) }] : [];
  if (full) actions.push({ label: "Free space…", act: freeSpace });
  return {
    title: `${choice.name} is a download of ${bytes === null ? "unknown size" : size(bytes)}`,
    text: [verdictWords(check, other), [...whyNot(check), ...(full ? [] : [course(stored)])].join(" "), ...(keep && !full ? [KEEP] : [])],
    actions: verdict === "no" ? [...actions, download] : [download, ...actions],
  };
}

/** @param {number | null} left bytes that are still to come @param {number} stored */
function downloadLabel(left, stored) {
  if (left === null) return "Download";
  return stored > 0 ? `Download the other ${size(left)}` : `Download ${size(left)}`;
}

/** Whether it fits. @param {Preflight} check @param {KnownModel} [other] what to take instead */
function verdictWords({ bytes, verdict, free }, other) {
  if (bytes === null && verdict === "fits") return "Whether it fits here cannot be told before.";
  if (verdict === "fits") return free === null ? "It fits on this device." : `It fits on this device, and ${size(free)} are free in this browser.`;
  const better = other ? `${other.name}, ${size(other.bytes)}` : "";
  if (verdict === "slow") return better ? `It will be slow here. ${better}, would be faster.` : "It will be slow here.";
  return better ? `It does not fit here: take ${better}.` : "It does not fit here.";
}

/** What speaks against it; where nothing does, what should be known. @param {Preflight} check */
function whyNot({ verdict, reasons }) {
  const told = reasons.filter(({ code }) => verdict === "fits" || !code.startsWith("unknown_"));
  return told.map(({ text }) => text);
}

/** @param {number} stored bytes */
function course(stored) {
  if (stored > 0) return `${size(stored)} are stored in this browser already; the download goes on from there.`;
  return "It comes over the network once, and is then kept in this browser.";
}

/** Whether asking the browser to keep the model makes sense: it has not promised, has not refused, and was not asked before. */
async function mayAskToKeep() {
  try {
    if (localStorage.getItem(ASKED) !== null) return false;
  } catch {
    return false; // storage is switched off
  }
  const { persisted } = await Outcrop.storage();
  if (persisted !== false) return false;
  const permission = await navigator.permissions.query({ name: "persistent-storage" }).catch(() => null); // not every browser has this name
  return permission?.state !== "denied";
}

/** Asks the browser, once. The storage panel shows what came of it. */
async function askToKeep() {
  if (!(await mayAskToKeep())) return;
  localStorage.setItem(ASKED, "yes");
  await Outcrop.persist().catch(() => false);
}
