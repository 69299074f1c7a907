// @ts-check
// Streamed text -> content and tool calls. Granite writes a call as `<tool_call>` JSON `</tool_call>` in its text; OpenAI's API
// has calls beside the text.
//
// Text is held back only while it may still turn out to be a call; what turns out not to be one, or is not valid JSON, is content:
// nothing that the model said is lost.

const OPEN = "<tool_call>";
const CLOSE = "</tool_call>";

/**
 * @typedef {{id: string, type: "function", function: {name: string, arguments: string}}} ToolCall
 *   `arguments` is JSON text, as in OpenAI's API
 */

/** Reads one answer, piece by piece. */
export class ToolCallReader {
  #held = "";
  /** Just behind a call: the white space there is layout, not something said. */
  #behindCall = false;

  /** @param {string} text @returns {{content: string, calls: ToolCall[]}} */
  push(text) {
    this.#held += text;
    return this.#take(false);
  }

  /** The end of the answer: what was held back comes out. */
  finish() {
    return this.#take(true);
  }

  /** @param {boolean} last @returns {{content: string, calls: ToolCall[]}} */
  #take(last) {
    let content = "";
    /** @type {ToolCall[]} */
    const calls = [];
    for (;;) {
      if (this.#behindCall) this.#held = this.#held.trimStart();
      if (this.#held !== "") this.#behindCall = false;
      const start = this.#held.indexOf(OPEN);
      if (start < 0) {
        const keep = last ? 0 : partialSuffix(this.#held);
        content += this.#held.slice(0, this.#held.length - keep);
        this.#held = this.#held.slice(this.#held.length - keep);
        break;
      }
      content += this.#held.slice(0, start);
      this.#held = this.#held.slice(start);
      const end = this.#held.indexOf(CLOSE);
      if (end < 0) {
        if (last) {
          content += this.#held;
          this.#held = "";
        }
        break;
      }
      const call = parse(this.#held.slice(OPEN.length, end));
      this.#behindCall = call !== null;
      if (call) calls.push(call);
      else content += this.#held.slice(0, end + CLOSE.length);
      this.#held = this.#held.slice(end + CLOSE.length);
    }
    return { content, calls };
  }
}

/** How many characters at the end of `text` could be the beginning of a call. @param {string} text */
function partialSuffix(text) {
  for (let n = Math.min(OPEN.length - 1, text.length); n > 0; n--) {
    if (OPEN.startsWith(text.slice(-n))) return n;
  }
  return 0;
}

/** @param {string} json @returns {ToolCall | null} */
function parse(json) {
  try {
    const { name, arguments: args } = JSON.parse(json);
    if (typeof name !== "string") return null;
    const text = typeof args === "string" ? args : JSON.stringify(args ?? {});
    return { id: `call_${randomId()}`, type: "function", function: { name, arguments: text } };
  } catch {
    return null;
  }
}

/** 24 letters and digits, as in OpenAI's ids. */
export function randomId() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
