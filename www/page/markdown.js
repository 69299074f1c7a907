// @ts-check
// Markdown -> DOM nodes, for text that nobody vouches for.
//
// `marked` only splits the text into tokens. The nodes are made here, one by one, from a short list of elements: there is no HTML
// string anywhere, so there is nothing to sanitise and nothing that could be missed. HTML in the text is shown as the text it is,
// pictures as their description (fetching one would tell its server about the chat), and links lead to the web only.

import { lexer } from "../vendor/marked.esm.js";

/** @typedef {{type: string, raw: string, text?: string, tokens?: Token[], [key: string]: any}} Token */

/** Deeper nesting than this is shown as plain text: a thousand ">" must not end in a stack overflow. */
const MAX_DEPTH = 24;

/** Tokens that become an element with their children inside. @type {Record<string, string>} */
const WRAPPERS = { paragraph: "p", blockquote: "blockquote", strong: "strong", em: "em", del: "del" };

/** @param {string} text @returns {Token[]} */
export function blocks(text) {
  try {
    return /** @type {Token[]} */ (lexer(text, { gfm: true, breaks: true }));
  } catch {
    return [{ type: "code", raw: text, text }]; // the parser gave up: better plain than not at all
  }
}

/** @param {string} text */
export function markdown(text) {
  const fragment = document.createDocumentFragment();
  for (const token of blocks(text)) fragment.append(render(token, 0));
  return fragment;
}

/**
 * Shows a text that grows. Blocks that did not change keep their nodes, so a selection in them survives the next word.
 */
export class GrowingMarkdown {
  /** @type {{raw: string, nodes: ChildNode[]}[]} */
  #shown = [];
  #parent;

  /** @param {HTMLElement} parent */
  constructor(parent) {
    this.#parent = parent;
  }

  /** @param {string} text the whole text so far */
  show(text) {
    const tokens = blocks(text).filter((token) => token.type !== "space" && token.type !== "def");
    let same = 0;
    while (same < this.#shown.length && same < tokens.length && this.#shown[same]?.raw === tokens[same]?.raw) same++;
    for (const { nodes } of this.#shown.splice(same)) for (const node of nodes) node.remove();
    for (const token of tokens.slice(same)) {
      const nodes = [...render(token, 0).childNodes];
      this.#parent.append(...nodes);
      this.#shown.push({ raw: token.raw, nodes });
    }
  }
}

/** @param {Token} token @param {number} depth @returns {DocumentFragment} */
function render(token, depth) {
  const fragment = document.createDocumentFragment();
  if (depth > MAX_DEPTH) {
    fragment.append(token.raw);
    return fragment;
  }
  const wrapper = WRAPPERS[token.type];
  if (wrapper) {
    fragment.append(element(wrapper, token.tokens, depth));
    return fragment;
  }
  switch (token.type) {
    case "heading":
      // The page's own headings are h1 and h2, a turn's is h3: an answer's come below.
      fragment.append(element(`h${Math.min(6, token.depth + 3)}`, token.tokens, depth));
      break;
    case "list": {
      const list = document.createElement(token.ordered ? "ol" : "ul");
      if (token.ordered && Number.isInteger(token.start)) /** @type {HTMLOListElement} */ (list).start = token.start;
      for (const item of token.items) list.append(element("li", item.tokens, depth));
      fragment.append(list);
      break;
    }
    case "checkbox":
      fragment.append(token.checked ? "☑ " : "☐ ");
      break;
    case "code": {
      const code = document.createElement("code");
      code.textContent = token.text ?? "";
      const pre = document.createElement("pre");
      pre.tabIndex = 0; // a long line scrolls, and the keyboard must reach it
      pre.append(code);
      fragment.append(pre);
      break;
    }
    case "codespan": {
      const code = document.createElement("code");
      code.textContent = token.text ?? "";
      fragment.append(code);
      break;
    }
    case "table":
      fragment.append(table(token, depth));
      break;
    case "link":
      fragment.append(link(token, depth));
      break;
    case "image":
      fragment.append(token.text || token.href);
      break;
    case "br":
      fragment.append(document.createElement("br"));
      break;
    case "hr":
      fragment.append(document.createElement("hr"));
      break;
    case "space":
    case "def":
      break;
    case "text":
      // A list item's text has tokens of its own; a plain one has none.
      if (token.tokens) fragment.append(...token.tokens.map((inner) => render(inner, depth + 1)));
      else fragment.append(entities(token.text ?? ""));
      break;
    case "escape":
      fragment.append(token.text ?? "");
      break;
    case "html":
    default:
      fragment.append(token.raw);
  }
  return fragment;
}

/** @param {string} tag @param {Token[] | undefined} tokens @param {number} depth */
function element(tag, tokens, depth) {
  const node = document.createElement(tag);
  for (const token of tokens ?? []) node.append(render(token, depth + 1));
  return node;
}

/** @param {Token} token @param {number} depth */
function link(token, depth) {
  const href = webAddress(token.href);
  if (!href) return element("span", token.tokens, depth);
  const anchor = /** @type {HTMLAnchorElement} */ (element("a", token.tokens, depth));
  anchor.href = href;
  anchor.target = "_blank";
  anchor.rel = "noopener noreferrer nofollow";
  anchor.title = href; // where it leads, whatever its text says
  return anchor;
}

/** @param {unknown} href @returns {string | null} */
function webAddress(href) {
  try {
    const url = new URL(String(href));
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null; // relative addresses mean nothing in an answer
  }
}

/** @param {Token} token @param {number} depth */
function table(token, depth) {
  const node = document.createElement("table");
  /** @param {{tokens: Token[], align: string | null}[]} cells @param {string} tag */
  const row = (cells, tag) => {
    const line = document.createElement("tr");
    for (const cell of cells) {
      const box = element(tag, cell.tokens, depth);
      if (cell.align) box.classList.add(`align-${cell.align}`);
      line.append(box);
    }
    return line;
  };
  const head = document.createElement("thead");
  head.append(row(token.header, "th"));
  const body = document.createElement("tbody");
  body.append(...token.rows.map((/** @type {any} */ cells) => row(cells, "td")));
  node.append(head, body);
  const scroller = document.createElement("div");
  scroller.className = "table";
  scroller.tabIndex = 0;
  scroller.append(node);
  return scroller;
}

/** @type {Record<string, string>} */
const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'", apos: "'", nbsp: "\u00a0" };

/** The entities that models write now and then; the result is text, whatever it says. @param {string} text */
function entities(text) {
  return text.replace(/&(amp|lt|gt|quot|#39|apos|nbsp);/g, (_, name) => ENTITIES[name] ?? "");
}
