// @ts-check
// `outcrop.chat.completions`: OpenAI's request in, OpenAI's response and chunk objects out.
//
// A parameter that would change the answer and is not implemented is an error, never ignored: `n`, `logprobs`, `response_format`.
// Two additions: `top_k`, `min_p`, `repetition_penalty` and `documents` in the request, and `signal`, which in OpenAI's client
// stands among the second argument's options (it may stand there too).

import { OutcropError, abortReason } from "./errors.js";

/**
 * @typedef {{id: string, type: "function", function: {name: string, arguments: string}}} ToolCall
 *   `arguments` is JSON text
 *
 * @typedef {object} Message
 * @property {"system" | "developer" | "user" | "assistant" | "tool"} role
 * @property {string | null | {type: "text", text: string}[]} [content]
 * @property {string} [name]
 * @property {ToolCall[]} [tool_calls]
 * @property {string} [tool_call_id]
 *
 * @typedef {object} Tool
 * @property {"function"} type
 * @property {{name: string, description?: string, parameters?: object}} function
 *
 * @typedef {object} CompletionParameters
 * @property {Message[]} messages
 * @property {string} [model] ignored: the model is the one that was loaded
 * @property {number | null} [max_tokens] most tokens in the answer; else until the model stops or the context is full
 * @property {number | null} [max_completion_tokens] the same under its newer name
 * @property {number | null} [temperature] 0: always the likeliest token
 * @property {number | null} [top_p]
 * @property {number | null} [top_k]
 * @property {number | null} [min_p]
 * @property {number | null} [repetition_penalty]
 * @property {number | null} [seed] same seed, same text
 * @property {string | string[] | null} [stop]
 * @property {Tool[]} [tools]
 * @property {"auto" | "none"} [tool_choice]
 * @property {object[]} [documents] Granite's documents: `{doc_id, title, text}`
 * @property {{include_usage?: boolean} | null} [stream_options]
 * @property {1 | null} [n] only one answer at a time
 * @property {string} [user] ignored: nobody keeps accounts here
 * @property {AbortSignal | null} [signal]
 *
 * @typedef {object} Usage
 * @property {number} prompt_tokens
 * @property {number} completion_tokens
 * @property {number} total_tokens
 * @property {{cached_tokens: number}} prompt_tokens_details `cached_tokens`: prompt tokens that were not computed again
 *
 * @typedef {"stop" | "length" | "tool_calls"} FinishReason
 *
 * @typedef {object} ChatCompletion
 * @property {string} id
 * @property {"chat.completion"} object
 * @property {number} created seconds since 1970
 * @property {string} model
 * @property {{index: number, message: {role: "assistant", content: string | null, refusal: null, tool_calls?: ToolCall[]}, logprobs: null, finish_reason: FinishReason}[]} choices
 * @property {Usage} usage
 *
 * @typedef {object} Delta
 * @property {"assistant"} [role]
 * @property {string} [content]
 * @property {(ToolCall & {index: number})[]} [tool_calls]
 *
 * @typedef {object} ChatCompletionChunk
 * @property {string} id
 * @property {"chat.completion.chunk"} object
 * @property {number} created
 * @property {string} model
 * @property {{index: number, delta: Delta, logprobs: null, finish_reason: FinishReason | null}[]} choices
 * @property {Usage | null} [usage] with `stream_options.include_usage`: null, but in the last chunk, which has no choices
 */

/** Passed on to the engine as they are. */
const PASSED = /** @type {const} */ (["messages", "documents", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "stop"]);

/** Parameters of OpenAI's that are not implemented, and the value with which each of them means nothing. @type {Record<string, (value: any) => boolean>} */
const NEUTRAL = {
  n: (value) => value === 1,
  logprobs: (value) => value === false,
  top_logprobs: (value) => value === 0,
  frequency_penalty: (value) => value === 0,
  presence_penalty: (value) => value === 0,
  logit_bias: (value) => Object.keys(value).length === 0,
  response_format: (value) => value.type === "text",
  tool_choice: (value) => value === "auto" || value === "none",
};

/** `outcrop.chat.completions`. */
export class Completions {
  #engine;
  #model;

  /** @param {import("./engine.js").EngineWorker} engine @param {string} model the name in every response */
  constructor(engine, model) {
    this.#engine = engine;
    this.#model = model;
  }

  /**
   * Answers a conversation. With `stream: true` the promise gives an async iterator of chunks; leaving its loop early stops the
   * model. Requests run one after another, in the order in which they were made.
   *
   * @overload
   * @param {CompletionParameters & {stream: true}} parameters
   * @param {{signal?: AbortSignal | null}} [options]
   * @returns {Promise<ChatCompletionStream>}
   */
  /**
   * @overload
   * @param {CompletionParameters & {stream?: false | null}} parameters
   * @param {{signal?: AbortSignal | null}} [options]
   * @returns {Promise<ChatCompletion>}
   */
  /**
   * @overload
   * @param {CompletionParameters & {stream?: boolean | null}} parameters
   * @param {{signal?: AbortSignal | null}} [options]
   * @returns {Promise<ChatCompletion | ChatCompletionStream>}
   */
  /**
   * @param {CompletionParameters & {stream?: boolean | null}} parameters
   * @param {{signal?: AbortSignal | null}} [options]
   * @returns {Promise<ChatCompletion | ChatCompletionStream>}
   */
  async create(parameters, options = {}) {
    const request = engineRequest(parameters);
    const signal = parameters.signal ?? options.signal ?? null;
    if (signal?.aborted) throw abortReason(signal);
    const head = { id: `chatcmpl-${randomId()}`, created: Math.floor(Date.now() / 1000), model: this.#model };
    const stream = new ChatCompletionStream(head, parameters, signal, (hooks) => this.#engine.request({ type: "chat", request }, hooks));
    return parameters.stream ? stream : collect(head, stream);
  }
}

/** An answer while it is being written: iterate over it once, with `for await`. */
export class ChatCompletionStream {
  /** Aborting this stops the model, as leaving the loop does. */
  controller = new AbortController();
  /** What came and was not taken yet. @type {ChatCompletionChunk[]} */
  #chunks = [];
  /** @type {{error: unknown} | null} */
  #end = null;
  /** Wakes whoever waits for the next chunk. */
  #wake = () => {};
  #taken = false;
  /** Counted even when the chunks do not carry it. @type {Usage | null} */
  #usage = null;

  /**
   * @param {{id: string, created: number, model: string}} head
   * @param {CompletionParameters} parameters
   * @param {AbortSignal | null} signal
   * @param {(hooks: import("./engine.js").Hooks) => Promise<import("./worker.js").Reply>} start asks the engine
   */
  constructor(head, parameters, signal, start) {
    const withUsage = parameters.stream_options?.include_usage === true;
    let calls = 0;

    /** @param {ChatCompletionChunk["choices"]} choices @param {Usage | null} usage */
    const push = (choices, usage = null) => {
      /** @type {ChatCompletionChunk} */
      const chunk = { id: head.id, object: "chat.completion.chunk", created: head.created, model: head.model, choices };
      if (withUsage) chunk.usage = usage;
      this.#chunks.push(chunk);
      this.#wake();
    };
    /** @param {Delta} delta @param {FinishReason | null} [finish_reason] */
    const say = (delta, finish_reason = null) => push([{ index: 0, delta, logprobs: null, finish_reason }]);
    /** @param {unknown} error null at the end of a whole answer */
    const end = (error) => {
      this.#end ??= { error };
      signal?.removeEventListener("abort", forward);
      this.#wake();
    };

    const forward = () => this.controller.abort(signal && abortReason(signal));
    signal?.addEventListener("abort", forward);
    // The iterator ends at once; the engine stops by itself within a token and its late answer has no reader.
    this.controller.signal.addEventListener("abort", () => end(abortReason(this.controller.signal)));

    say({ role: "assistant", content: "" });
    const onDelta = (/** @type {string} */ content) => {
      if (!this.#end && content) say({ content });
    };
    const onCall = (/** @type {import("./worker.js").ToolCall} */ call) => {
      if (!this.#end) say({ tool_calls: [{ index: calls++, id: `call_${randomId()}`, type: "function", function: call }] });
    };
    start({ onDelta, onCall, signal: this.controller.signal }).then((reply) => {
      if (this.#end) return;
      say({}, calls > 0 ? "tool_calls" : reply.finish_reason === "length" ? "length" : "stop");
      const { prompt_tokens, completion_tokens, total_tokens, cached_tokens } = reply.usage;
      this.#usage = { prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details: { cached_tokens } };
      if (withUsage) push([], this.#usage);
      end(null);
    }, end);
  }

  /** Token counts, once the answer is whole. */
  get usage() {
    return this.#usage;
  }

  /** @returns {AsyncGenerator<ChatCompletionChunk, void, undefined>} */
  async *[Symbol.asyncIterator]() {
    if (this.#taken) throw new OutcropError("invalid_request", "a stream can be iterated over only once");
    this.#taken = true;
    try {
      for (;;) {
        // After an abort nothing more is handed out, not even what has come already.
        const chunk = this.controller.signal.aborted ? undefined : this.#chunks.shift();
        if (chunk) yield chunk;
        else if (this.#end?.error) throw this.#end.error;
        else if (this.#end) return;
        else await new Promise((resolve) => (this.#wake = () => resolve(undefined)));
      }
    } finally {
      if (!this.#end) this.controller.abort();
    }
  }
}

/**
 * @param {{id: string, created: number, model: string}} head
 * @param {ChatCompletionStream} stream
 * @returns {Promise<ChatCompletion>}
 */
async function collect(head, stream) {
  let content = "";
  /** @type {ToolCall[]} */
  const tool_calls = [];
  /** @type {FinishReason} */
  let finish_reason = "stop";
  for await (const { choices } of stream) {
    for (const { delta, finish_reason: reason } of choices) {
      content += delta.content ?? "";
      for (const { index: _, ...call } of delta.tool_calls ?? []) tool_calls.push(call);
      finish_reason = reason ?? finish_reason;
    }
  }
  const message = { role: /** @type {const} */ ("assistant"), content: content || !tool_calls.length ? content : null, refusal: null };
  return {
    id: head.id,
    object: "chat.completion",
    created: head.created,
    model: head.model,
    choices: [{ index: 0, message: tool_calls.length ? { ...message, tool_calls } : message, logprobs: null, finish_reason }],
    usage: /** @type {Usage} */ (stream.usage),
  };
}

/** @param {CompletionParameters} parameters @returns {Record<string, unknown>} the engine's request: only what was given */
function engineRequest(parameters) {
  if (!Array.isArray(parameters?.messages)) throw new OutcropError("invalid_request", "messages must be an array");
  const given = /** @type {Record<string, any>} */ (parameters);
  for (const [name, neutral] of Object.entries(NEUTRAL)) {
    const value = given[name];
    if (value !== undefined && value !== null && !neutral(value)) {
      throw new OutcropError("unsupported_parameter", `${name}: ${JSON.stringify(value)} is not supported`);
    }
  }
  /** @type {Record<string, unknown>} */
  const request = {};
  for (const name of PASSED) if (given[name] !== undefined && given[name] !== null) request[name] = given[name];
  const most = parameters.max_completion_tokens ?? parameters.max_tokens;
  if (most !== undefined && most !== null) request.max_tokens = most;
  if (parameters.tools?.length && parameters.tool_choice !== "none") request.tools = parameters.tools;
  return request;
}

/** Unique enough for the life of a page. */
function randomId() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
