// @ts-check
// The card above the message box: how far a load is, what it waits for, what is to be decided, or why it failed.

import { trouble } from "./chat.js";
import { button, paragraph, span } from "./parts.js";
import { counts, footnote, line, news, pace, share } from "./progress.js";

/**
 * @typedef {import("../worker.js").Progress} Progress
 * @typedef {import("../control.js").DownloadControl} DownloadControl
 * @typedef {import("./words.js").Explanation} Explanation
 * @typedef {import("./words.js").Remedy} Remedy
 * @typedef {import("./progress.js").Pace} Pace
 * @typedef {import("./parts.js").Action} Action
 *
 * @typedef {{title: string, text: string[], actions: Action[]}} Question its first text and its first action are those that matter most
 *
 * @typedef {object} Handles what the card does to a load
 * @property {() => void} cancel
 * @property {() => void} freeSpace
 * @property {DownloadControl} control
 */

/** A wait that is over within this time need not be told to anybody who listens. */
const WORTH_SAYING_MS = 1500;

export class LoadCard {
  #card;
  #announce;
  /** The load being shown. @type {LoadView | null} */
  #view = null;

  /** @param {HTMLElement} card @param {(text: string) => void} announce to screen readers */
  constructor(card, announce) {
    this.#card = card;
    this.#announce = announce;
  }

  hide() {
    this.#view?.end();
    this.#view = null;
    this.#card.blur(); // what is hidden cannot have the focus
    this.#card.hidden = true;
    this.#card.replaceChildren();
  }

  /** @param {string} name @param {Handles} handles */
  start(name, handles) {
    const view = new LoadView(name, handles, this.#announce);
    this.#set(view.parts, "card loading");
    this.#view = view;
  }

  /** @param {Progress} progress */
  show(progress) {
    this.#view?.show(progress);
  }

  /** The load is being ended: nothing on the card moves any more. */
  stopping() {
    if (this.#card.contains(document.activeElement)) this.#card.focus();
    this.#view?.stopping();
  }

  /** @param {Question} question */
  ask({ title, text, actions }) {
    const buttons = paragraph("buttons", ...actions.map((action, i) => button(i === 0 ? "button main" : "button", action)));
    this.#set([paragraph("title", title), ...text.map((line, i) => paragraph(i === 0 ? "" : "hint", line)), buttons], "card");
  }

  /** @param {Explanation} explanation @param {(remedy: Remedy) => void} act */
  fail(explanation, act) {
    this.#set([trouble(explanation, act)], "card");
  }

  /** @param {Element[]} parts @param {string} className */
  #set(parts, className) {
    this.#view?.end();
    this.#view = null;
    const focused = this.#card.contains(document.activeElement);
    this.#card.className = className;
    this.#card.replaceChildren(...parts);
    this.#card.hidden = false;
    if (focused) this.#card.focus(); // the button that was pressed is gone
  }
}

/** One load on the card, from its first byte to its end. */
class LoadView {
  #handles;
  #announce;
  #bar = document.createElement("progress");
  #line = paragraph("line", "Starting the engine…");
  #note = paragraph("hint", "");
  #full = document.createElement("div");
  #pause;
  #cancel;
  #name;
  /** @type {Progress | null} */
  #progress = null;
  /** When `#progress` came, by performance.now(). */
  #at = 0;
  /** @type {Pace} */
  #pace = "moving";
  /** What was told last. @type {Pace} */
  #told = "moving";
  /** The visitor has read that there is too little room. */
  #accepted = false;
  #wasFull = false;
  #timer = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #telling;

  /** @param {string} name @param {Handles} handles @param {(text: string) => void} announce */
  constructor(name, handles, announce) {
    this.#name = name;
    this.#handles = handles;
    this.#announce = announce;
    this.#pause = button("link", { label: "Pause", act: () => this.#toggle() });
    this.#pause.hidden = true;
    this.#cancel = button("link", { label: "Cancel", name: `Cancel loading ${name}`, act: handles.cancel });
    this.#bar.max = 100;
    this.#bar.setAttribute("aria-label", `Loading ${name}`);
    const strong = document.createElement("strong");
    strong.textContent = "This browser’s storage has no room for all of it.";
    this.#full.className = "full";
    this.#full.hidden = true;
    this.#full.append(
      paragraph("", strong, " The load goes on, and what does not fit is not stored: the model will work in this tab, and the next visit downloads that part again."),
      paragraph(
        "buttons",
        button("button", { label: "Go on without storing", act: () => this.#accept() }),
        button("button", { label: "Free space…", act: handles.freeSpace }),
      ),
    );
    const controls = span("controls", "");
    controls.append(this.#pause, this.#cancel);
    /** What the card holds. */
    this.parts = [paragraph("title", span("name", name), controls), this.#bar, this.#line, this.#note, this.#full];
    this.#timer = window.setInterval(() => this.#tick(), 1000);
  }

  end() {
    clearInterval(this.#timer);
    clearTimeout(this.#telling);
  }

  stopping() {
    this.end();
    this.#pause.disabled = this.#cancel.disabled = true;
    this.#full.hidden = true;
    this.#line.textContent = "Stopping…";
  }

  /** @param {Progress} progress */
  show(progress) {
    this.#progress = progress;
    this.#at = performance.now();
    this.#draw();
  }

  /** Waits are counted down between the engine's own words. */
  #tick() {
    if (this.#progress?.retrySeconds) this.#draw();
  }

  #draw() {
    if (!this.#progress) return;
    // The button answers at once, the engine a little later.
    const progress = { ...this.#progress, paused: this.#handles.control.paused };
    const { phase, loaded, total, problem } = progress;
    const now = pace(progress);
    if (counts(progress) && total) {
      this.#bar.value = (100 * loaded) / total;
      this.#bar.setAttribute("aria-valuetext", share(loaded, total));
    } else {
      this.#bar.removeAttribute("value"); // under way, no telling how far
      this.#bar.removeAttribute("aria-valuetext");
    }
    this.#bar.classList.toggle("still", now !== "moving" && now !== "other-tab");
    const parts = line(progress, (performance.now() - this.#at) / 1000);
    this.#line.replaceChildren(...parts.flatMap((part, i) => (i < parts.length - 1 ? [span("part", `${part} ·`), " "] : [span("part", part)])));
    this.#pause.hidden = phase !== "download" || now === "other-tab";
    this.#pause.textContent = progress.paused ? "Continue" : "Pause";
    this.#pause.setAttribute("aria-label", `${this.#pause.textContent} downloading ${this.#name}`);
    this.#showProblem(problem, footnote(progress));
    this.#tell(now);
  }

  /** @param {Progress["problem"]} problem @param {string} note */
  #showProblem(problem, note) {
    const full = problem === "quota";
    if (full && !this.#wasFull) this.#announce("This browser’s storage has no room for all of it. The load goes on, and what does not fit is not stored.");
    if (!full && this.#wasFull) {
      this.#accepted = false;
      this.#announce("There is room again: what still arrives is stored.");
    }
    this.#wasFull = full;
    const open = full && !this.#accepted;
    // A button with the focus must not vanish under the visitor.
    if (!open && this.#full.contains(document.activeElement)) this.#cancel.focus();
    this.#full.hidden = !open;
    this.#note.textContent = open ? "" : note;
  }

  #toggle() {
    const { control } = this.#handles;
    if (control.paused) control.continue();
    else control.pause();
    this.#draw();
  }

  #accept() {
    this.#accepted = true;
    this.#draw();
  }

  /** @param {Pace} now */
  #tell(now) {
    if (now === this.#pace) return;
    this.#pace = now;
    clearTimeout(this.#telling);
    this.#telling = setTimeout(() => {
      if (now !== this.#told) this.#announce(news(now));
      this.#told = now;
    }, WORTH_SAYING_MS);
  }
}
