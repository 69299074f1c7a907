// @ts-check
// After a download that did not come to its end: what of it is kept.

import { Outcrop } from "../outcrop.js";
import { byStored, same } from "./choices.js";
import { share } from "./progress.js";

/**
 * @typedef {import("./choices.js").Choice} Choice
 * @typedef {import("./load-card.js").Question} Question
 * @typedef {import("../worker.js").Progress} Progress
 */

/** Bytes of a model that are in this browser's storage: of what had arrived, the pieces under way are not. @param {Choice} choice */
export async function keptOf(choice) {
  try {
    const [stored, catalogue] = await Promise.all([Outcrop.models(), Outcrop.catalogue()]);
    return stored.find((model) => same(byStored(model, catalogue), choice))?.bytes ?? 0;
  } catch {
    return 0; // storage is switched off
  }
}

/**
 * What to say after a visitor has cancelled a load; null: nothing that they do not know.
 *
 * @param {Choice} choice
 * @param {Progress} last
 * @param {number} kept
 * @param {{again: () => void, close: () => void}} acts
 * @returns {Question | null}
 */
export function cancelled({ name }, { phase, waiting, total }, kept, { again, close }) {
  if (phase !== "download") return null;
  const [verb, label] = kept > 0 ? ["goes on from there", "Continue"] : ["begins anew", "Try again"];
  const text =
    waiting === "other-tab"
      ? "The other tab goes on downloading it, and this browser keeps it."
      : kept > 0
        ? `${share(kept, total)} are kept in this browser; the next load ${verb}.`
        : `Nothing of it is kept; the next load ${verb}.`;
  return {
    title: `The download of ${name} was stopped`,
    text: [text],
    actions: [
      { label, name: `${label} downloading ${name}`, act: again },
      { label: "Close", act: close },
    ],
  };
}
