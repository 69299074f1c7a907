// OpenAI's shapes, streams, aborts and tool calls, without a browser: the engine is played by a function. What is a tool call in a
// text is the engine's business (tests/text_tools.rs).
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Completions } from "../../www/completions.js";
import { explain, size } from "../../www/page/words.js";

/** @typedef {import("../../www/completions.js").ChatCompletionChunk} ChatCompletionChunk */

const USAGE = { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10, cached_tokens: 4 };
const messages = [{ role: /** @type {const} */ ("user"), content: "Hi" }];

/**
 * @param {(string | {name: string, arguments: string})[]} deltas what the engine says and calls, one after another
 * @param {{finish_reason?: string, error?: Error, endless?: boolean}} [how]
 */
function completions(deltas, { finish_reason = "stop", error, endless = false } = {}) {
  /** @type {{request: any, aborted: boolean}} */
  const seen = { request: null, aborted: false };
  const engine = {
    /** @param {any} message @param {any} hooks */
    async request(message, { onDelta, onCall, signal }) {
      seen.request = message.request;
      signal.addEventListener("abort", () => (seen.aborted = true));
      for (let i = 0; endless ? !signal.aborted : i < deltas.length; i++) {
        await new Promise((resolve) => setTimeout(resolve));
        const part = deltas[i % deltas.length];
        typeof part === "string" ? onDelta(part) : onCall(part);
      }
      if (error) throw error;
      return { text: deltas.join(""), finish_reason: signal.aborted ? "abort" : finish_reason, usage: USAGE, timings: {} };
    },
  };
  return { completions: new Completions(/** @type {any} */ (engine), "granite-demo"), seen };
}

/** @param {AsyncIterable<ChatCompletionChunk>} stream */
async function all(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

test("a completion has OpenAI's shape", async () => {
  const answer = await completions(["Hel", "lo"]).completions.create({ messages });
  const { id, created, ...rest } = answer;
  assert.match(id, /^chatcmpl-[0-9a-f]{24}$/);
  assert.ok(Number.isInteger(created) && Math.abs(created - Date.now() / 1000) < 5);
  assert.deepEqual(rest, {
    object: "chat.completion",
    model: "granite-demo",
    choices: [{ index: 0, message: { role: "assistant", content: "Hello", refusal: null }, logprobs: null, finish_reason: "stop" }],
    usage: { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10, prompt_tokens_details: { cached_tokens: 4 } },
  });
});

test("a stream has OpenAI's chunks", async () => {
  const parameters = /** @type {const} */ ({ messages, stream: true, stream_options: { include_usage: true } });
  const chunks = await all(await completions(["Hel", "lo"], { finish_reason: "length" }).completions.create(parameters));
  assert.equal(new Set(chunks.map(({ id, created }) => `${id} ${created}`)).size, 1);
  assert.ok(chunks.every(({ object, model }) => object === "chat.completion.chunk" && model === "granite-demo"));
  const choice = (/** @type {object} */ delta, finish_reason = /** @type {string | null} */ (null)) => [{ index: 0, delta, logprobs: null, finish_reason }];
  assert.deepEqual(
    chunks.map(({ choices, usage }) => ({ choices, usage })),
    [
      { choices: choice({ role: "assistant", content: "" }), usage: null },
      { choices: choice({ content: "Hel" }), usage: null },
      { choices: choice({ content: "lo" }), usage: null },
      { choices: choice({}, "length"), usage: null },
      { choices: [], usage: { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10, prompt_tokens_details: { cached_tokens: 4 } } },
    ],
  );
  const plain = await all(await completions(["x"]).completions.create({ messages, stream: true }));
  assert.ok(plain.every((chunk) => !("usage" in chunk)), "no usage unless asked for");
});

test("parameters reach the engine, and unsupported ones are refused", async () => {
  const { completions: api, seen } = completions(["x"]);
  await api.create({ messages, max_tokens: 5, max_completion_tokens: 6, temperature: 0.5, top_p: null, seed: 3, stop: ["a"], n: 1, user: "me", model: "y" });
  assert.deepEqual(seen.request, { messages, max_tokens: 6, temperature: 0.5, seed: 3, stop: ["a"] });
  for (const wrong of [{ n: 2 }, { logprobs: true }, { response_format: { type: "json_object" } }, { tool_choice: "required" }, { presence_penalty: 1 }]) {
    await assert.rejects(api.create(/** @type {any} */ ({ messages, ...wrong })), { code: "unsupported_parameter" }, JSON.stringify(wrong));
  }
  await assert.rejects(api.create(/** @type {any} */ ({})), { code: "invalid_request" });
});

test("an abort rejects with the signal's reason, before, during and in a stream", async () => {
  const reason = { name: "AbortError" };
  await assert.rejects(completions(["x"]).completions.create({ messages, signal: AbortSignal.abort() }), reason);

  const during = new AbortController();
  const one = completions(["x"], { endless: true });
  setTimeout(() => during.abort(), 20);
  await assert.rejects(one.completions.create({ messages, signal: during.signal }), reason);
  assert.ok(one.seen.aborted);

  const own = new AbortController();
  const two = completions(["x"], { endless: true });
  const stream = await two.completions.create({ messages, stream: true }, { signal: own.signal });
  let chunks = 0;
  await assert.rejects(async () => {
    for await (const _ of stream) if (++chunks === 3) own.abort(new TypeError("mine"));
  }, new TypeError("mine"));
  assert.equal(chunks, 3, "nothing comes after the abort");
  assert.ok(two.seen.aborted);
});

test("leaving the loop stops the engine", async () => {
  const { completions: api, seen } = completions(["x"], { endless: true });
  for await (const { choices } of await api.create({ messages, stream: true })) if (choices[0]?.delta.content) break;
  assert.ok(seen.aborted);
});

test("an engine's error ends the stream after what was said", async () => {
  const error = Object.assign(new Error("gone"), { code: "gpu_lost" });
  const stream = await completions(["a", "b"], { error }).completions.create({ messages, stream: true });
  let said = "";
  await assert.rejects(async () => {
    for await (const { choices } of stream) said += choices[0]?.delta.content ?? "";
  }, { code: "gpu_lost" });
  assert.equal(said, "ab");
  await assert.rejects(completions([], { error }).completions.create({ messages }), { code: "gpu_lost" });
});

test("tool calls come beside the text", async () => {
  const tools = [{ type: /** @type {const} */ ("function"), function: { name: "score" } }];
  const parts = ["Sure.", { name: "score", arguments: '{"who": "Ada"}' }, { name: "now", arguments: "{}" }];
  const { completions: api, seen } = completions(parts);
  const { choices } = await api.create({ messages, tools });
  assert.deepEqual(seen.request.tools, tools);
  assert.equal(choices[0]?.finish_reason, "tool_calls");
  assert.equal(choices[0]?.message.content, "Sure.");
  const calls = choices[0]?.message.tool_calls ?? [];
  assert.deepEqual(calls.map(({ type, function: called }) => ({ type, ...called })), [
    { type: "function", name: "score", arguments: '{"who": "Ada"}' },
    { type: "function", name: "now", arguments: "{}" },
  ]);
  assert.equal(new Set(calls.map(({ id }) => id)).size, 2);
  const chunks = await all(await completions(parts).completions.create({ messages, tools, stream: true }));
  assert.deepEqual(chunks.flatMap(({ choices }) => choices[0]?.delta.tool_calls ?? []).map(({ index }) => index), [0, 1]);
  const only = await completions(parts.slice(1)).completions.create({ messages, tools });
  assert.equal(only.choices[0]?.message.content, null);

  await api.create({ messages, tools, tool_choice: "none" });
  assert.ok(!("tools" in seen.request), "the model does not hear of tools that it must not use");
});

test("numbers and errors in words", () => {
  assert.deepEqual([0, 999, 1000, 3855872, 999999, 1942564512].map(size), ["0 B", "999 B", "1.00 kB", "3.86 MB", "1.00 MB", "1.94 GB"]);
  assert.equal(explain({ code: "no_webgpu", message: "WebGPU is not available: no adapter" }).title, "No graphics processor to use here");
  for (const odd of [new Error("x"), { code: "toString", message: "x" }, { code: "never_heard_of", message: "x" }, undefined]) {
    assert.equal(explain(odd).title, "Something went wrong");
  }
});

test("every error that the engine knows has words of its own", () => {
  const read = (/** @type {string} */ file) => readFileSync(new URL(`../../${file}`, import.meta.url), "utf8");
  const codes = [...read("src/error.rs").matchAll(/=> "(\w+)"/g), ...read("www/worker.js").matchAll(/failure\("(\w+)"/g)].map((match) => match[1]);
  assert.ok(codes.length > 20);
  // An abort is what the visitor asked for; a chat without a model cannot be started on the page.
  const told = codes.filter((code) => code !== "aborted" && code !== "not_loaded");
  assert.deepEqual(told.filter((code) => explain({ code, message: "" }).title === "Something went wrong"), []);
});
