// @ts-check
// The card above the message box: how far a load is, or why it failed.

import { trouble } from "./chat.js";
import { device, duration, size } from "./words.js";

/**
 * @typedef {import("../worker.js").Progress} Progress
 * @typedef {import("./words.js").Explanation} Explanation
 * @typedef {import("./words.js").Remedy} Remedy
 */

/** Where the bytes come from, in words. @type {Record<string, string>} */
const VERBS = { download: "Downloading", cache: "Reading", file: "Reading" };

export class LoadCard {
  #card;
  #bar = document.createElement("progress");
  #line = document.createElement("p");
  #note = document.createElement("p");

  /** @param {HTMLElement} card */
  constructor(card) {
    this.#card = card;
  }

  hide() {
    this.#card.hidden = true;
    this.#card.replaceChildren();
  }

  /** @param {string} name @param {() => void} cancel */
  start(name, cancel) {
    const head = document.createElement("p");
    head.className = "title";
    head.textContent = name;
    const stop = document.createElement("button");
    stop.type = "button";
    stop.className = "link";
    stop.textContent = "Cancel";
    stop.setAttribute("aria-label", `Cancel loading ${name}`);
    stop.addEventListener("click", cancel);
    head.append(stop);
    this.#bar = document.createElement("progress");
    this.#bar.max = 100;
    this.#bar.setAttribute("aria-label", `Loading ${name}`);
    this.#line.className = "line";
    this.#line.textContent = "Starting the engine…";
    this.#note.className = "hint";
    this.#note.textContent = "";
    this.#card.className = "card loading";
    this.#card.replaceChildren(head, this.#bar, this.#line, this.#note);
    this.#card.hidden = false;
  }

  /** @param {Progress} progress */
  show({ phase, backend, loaded, total, bytesPerSecond, secondsLeft, fromCache, note }) {
    const parts = [];
    if (phase in VERBS) {
      const place = fromCache || phase === "cache" ? " from this browser" : phase === "file" ? " your file" : "";
      parts.push(`${VERBS[phase]}${place}: ${size(loaded)}${total ? ` of ${size(total)}` : ""}`);
      if (bytesPerSecond) parts.push(`${size(bytesPerSecond)}/s`);
      if (secondsLeft !== null && secondsLeft > 2) parts.push(`${duration(secondsLeft)} left`);
    } else {
      parts.push(phase === "upload" ? `Handing it to the ${device(backend)}…` : "Getting ready…");
    }
    if (phase in VERBS && total) {
      this.#bar.value = (100 * loaded) / total;
      this.#bar.setAttribute("aria-valuetext", `${size(loaded)} of ${size(total)}`);
    } else {
      this.#bar.removeAttribute("value"); // under way, no telling how far
      this.#bar.removeAttribute("aria-valuetext");
    }
    this.#line.textContent = parts.join(" · ");
    if (note) this.#note.textContent = note;
  }

  /** @param {string} title @param {string} text @param {string} label @param {() => void} accept */
  ask(title, text, label, accept) {
    const head = document.createElement("p");
    head.className = "title";
    head.textContent = title;
    const body = document.createElement("p");
    body.textContent = text;
    const buttons = document.createElement("p");
    buttons.className = "buttons";
    const button = document.createElement("button");
    button.type = "button";
    button.className = "button main";
    button.textContent = label;
    button.addEventListener("click", accept);
    buttons.append(button);
    this.#card.className = "card";
    this.#card.replaceChildren(head, body, buttons);
    this.#card.hidden = false;
  }

  /** @param {Explanation} explanation @param {(remedy: Remedy) => void} act */
  fail(explanation, act) {
    this.#card.className = "card";
    this.#card.replaceChildren(trouble(explanation, act));
    this.#card.hidden = false;
  }
}
