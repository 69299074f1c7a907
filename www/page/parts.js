// @ts-check
// The pieces that cards and lists are made of. Text is always text: nothing here, nor anywhere on the page, parses markup.

/** @typedef {{label: string, act: () => void, name?: string}} Action a button; `name` for a screen reader, where its label alone says too little */

/** @param {string} className @param {...(string | Node)} content */
export function paragraph(className, ...content) {
  const p = document.createElement("p");
  p.className = className;
  p.append(...content);
  return p;
}

/** @param {string} className @param {string} text */
export function span(className, text) {
  const element = document.createElement("span");
  element.className = className;
  element.textContent = text;
  return element;
}

/** @param {string} className @param {Action} action */
export function button(className, { label, act, name }) {
  const element = document.createElement("button");
  element.type = "button";
  element.className = className;
  element.textContent = label;
  if (name) element.setAttribute("aria-label", name);
  element.addEventListener("click", act);
  return element;
}
