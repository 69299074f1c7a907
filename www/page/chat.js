// @ts-check
// The conversation: its messages, and how they look. The messages live here and not in the engine, so they outlive it.

import { GrowingMarkdown } from "./markdown.js";
import { REMEDIES } from "./words.js";

/**
 * @typedef {import("./words.js").Explanation} Explanation
 * @typedef {import("./words.js").Remedy} Remedy
 * @typedef {{role: "user" | "assistant", content: string}} Turn
 */

/** Closer than this to the end, in CSS pixels, counts as reading along. */
const NEAR_END = 80;

/** The list of turns on the page. */
export class Chat {
  /** @type {Turn[]} */
  turns = [];
  #list;
  #scroller;

  /** @param {HTMLElement} list @param {HTMLElement} scroller the element that scrolls */
  constructor(list, scroller) {
    this.#list = list;
    this.#scroller = scroller;
  }

  get empty() {
    return this.#list.childElementCount === 0;
  }

  clear() {
    this.turns = [];
    this.#list.replaceChildren();
  }

  /** @param {string} text */
  addQuestion(text) {
    this.turns.push({ role: "user", content: text });
    const { item, body } = turn("you", "You");
    body.textContent = text;
    this.#list.append(item);
    this.scrollToEnd();
  }

  /** Takes back the last question and its answer, if any. @returns {string} the question */
  takeBack() {
    let last = this.turns.pop();
    if (last?.role === "assistant") last = this.turns.pop();
    for (let item = this.#list.lastElementChild; item; item = this.#list.lastElementChild) {
      item.remove();
      if (item.classList.contains("you")) break;
    }
    return last?.content ?? "";
  }

  /** @param {string} model */
  startAnswer(model) {
    const answer = new Answer(this, model);
    this.#list.append(answer.item);
    this.scrollToEnd();
    return answer;
  }

  /** Whether the reader is at the end, and wants to stay there. */
  get atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    return scrollHeight - scrollTop - clientHeight < NEAR_END;
  }

  scrollToEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }
}

/** One answer, from "…" to its last word. */
export class Answer {
  text = "";
  #chat;
  #body;
  #foot;
  #view;
  #frame = 0;

  /** @param {Chat} chat @param {string} model */
  constructor(chat, model) {
    this.#chat = chat;
    const { item, body } = turn("model", model);
    this.item = item;
    this.#body = body;
    body.classList.add("markdown");
    item.classList.add("waiting");
    item.setAttribute("aria-busy", "true");
    this.#foot = document.createElement("div");
    this.#foot.className = "foot";
    item.append(this.#foot);
    this.#view = new GrowingMarkdown(body);
  }

  /** @param {string} delta */
  write(delta) {
    if (!delta) return;
    this.text += delta;
    this.item.classList.remove("waiting");
    // Words may come faster than the screen: once a frame is enough. A hidden tab has no frames, and catches up in end().
    this.#frame ||= requestAnimationFrame(() => this.#show());
  }

  #show() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const follow = this.#chat.atEnd;
    this.#view.show(this.text);
    if (follow) this.#chat.scrollToEnd();
  }

  /** The answer is over, whole or not: what was said becomes part of the conversation. @param {string} note */
  end(note) {
    const follow = this.#chat.atEnd;
    this.#show();
    this.item.classList.remove("waiting");
    this.item.removeAttribute("aria-busy");
    if (this.text) {
      // A new chat may have begun meanwhile, and this is no part of it.
      if (this.item.isConnected) this.#chat.turns.push({ role: "assistant", content: this.text });
      this.#foot.append(copyButton(this.text));
    } else {
      this.#body.remove();
    }
    if (note) {
      const line = document.createElement("span");
      line.textContent = note;
      this.#foot.append(line);
    }
    if (follow) this.#chat.scrollToEnd();
  }

  /**
   * The answer failed: says so where it would have stood.
   *
   * @param {Explanation} explanation
   * @param {(remedy: Remedy) => void} act
   */
  fail(explanation, act) {
    this.end("");
    const box = trouble(explanation, act);
    box.classList.add("card");
    this.item.append(box);
    this.#chat.scrollToEnd();
  }
}

/**
 * What went wrong, what to do about it, and, folded away, the engine's own words.
 *
 * @param {Explanation} explanation
 * @param {(remedy: Remedy) => void} act
 */
export function trouble({ title, text, remedies, details }, act) {
  const box = document.createElement("div");
  box.className = "trouble";
  box.setAttribute("role", "alert");
  const head = document.createElement("p");
  head.className = "title";
  head.textContent = title;
  const body = document.createElement("p");
  body.textContent = text;
  const more = document.createElement("details");
  const summary = document.createElement("summary");
  summary.textContent = "Details";
  const code = document.createElement("p");
  code.className = "code";
  code.textContent = details;
  more.append(summary, code);
  const buttons = document.createElement("p");
  buttons.className = "buttons";
  remedies.forEach((remedy, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = i === 0 ? "button main" : "button";
    button.dataset.remedy = remedy;
    button.textContent = REMEDIES[remedy];
    button.addEventListener("click", () => act(remedy));
    buttons.append(button);
  });
  box.append(head, body, more);
  if (remedies.length) box.append(buttons);
  return box;
}

/** @param {string} className @param {string} author */
function turn(className, author) {
  const item = document.createElement("li");
  item.className = className;
  const head = document.createElement("h3");
  head.className = "sr";
  head.textContent = author;
  const body = document.createElement("div");
  body.className = "body";
  body.dir = "auto";
  item.append(head, body);
  return { item, body };
}

/** @param {string} text */
function copyButton(text) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "link";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Could not copy";
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  return button;
}
