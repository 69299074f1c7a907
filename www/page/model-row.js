// @ts-check
// A model in a list: its name and size, what it is, what is stored of it, and what can be done with it.

import { button, paragraph, span } from "./parts.js";
import { size } from "./words.js";

/**
 * @typedef {import("./choices.js").Choice} Choice
 * @typedef {import("./parts.js").Action} Action
 *
 * @typedef {object} Row
 * @property {string} use what the main button says
 * @property {(() => void) | null} act what it does; null: nothing, now
 * @property {boolean} current it is the model in use
 * @property {string} [state] what is stored of it
 * @property {Action[]} [actions] smaller ones
 */

/** @param {Choice} choice @param {Row} row */
export function modelRow(choice, { use, act, current, state, actions = [] }) {
  const item = document.createElement("li");
  if (current) item.setAttribute("aria-current", "true");
  const bytes = choice.bytes ? size(choice.bytes) : "";
  item.append(paragraph("name", choice.name, " ", span("size", bytes)));
  const about = choice.description ?? choice.url;
  if (about) item.append(paragraph(choice.description ? "hint about" : "hint about address", about));
  if (state) {
    const links = span("controls", "");
    links.append(...actions.map((action) => keyed(button("link", action), `${action.label} ${choice.query}`)));
    item.append(paragraph("hint stored", span("", state), links));
  }
  const main = keyed(button("button use", { label: use, name: `${use}: ${choice.name}${bytes ? `, ${bytes}` : ""}`, act: () => act?.() }), `use ${choice.query}`);
  main.disabled = !act;
  item.append(main);
  return item;
}

/** A list is drawn anew when something changes; by its key a button is found again. @param {HTMLButtonElement} element @param {string} key */
export function keyed(element, key) {
  element.dataset.key = key;
  return element;
}

/** Fills a list without throwing the keyboard back to its start. @param {Element} list @param {Element[]} items */
export function fill(list, items) {
  const { activeElement } = document;
  const held = activeElement instanceof HTMLElement && list.contains(activeElement) ? activeElement.dataset.key : undefined;
  list.replaceChildren(...items);
  if (held !== undefined) /** @type {HTMLElement | null} */ (list.querySelector(`[data-key="${CSS.escape(held)}"]`))?.focus();
}
