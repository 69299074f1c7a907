// @ts-check
// The chat page: one model at a time, one answer at a time.
//
// Everything that lasts is in three places: the conversation (page/chat.js), the loaded model (`outcrop`), and the page's address
// (`?model=` and `backend=`), which a visitor may keep or share. Losing the engine loses no word of the conversation.

import { DownloadControl } from "./control.js";
import { Outcrop } from "./outcrop.js";
import { Chat } from "./page/chat.js";
import { byFiles, byName } from "./page/choices.js";
import { acceptDrops } from "./page/drop.js";
import { LoadCard } from "./page/load-card.js";
import { ModelDialog } from "./page/model-dialog.js";
import { offer } from "./page/offer.js";
import { SettingsDialog } from "./page/settings.js";
import { cancelled, keptOf } from "./page/stopped.js";
import { device, explain, size, speed } from "./page/words.js";

/**
 * @typedef {import("./page/choices.js").Choice} Choice
 * @typedef {import("./page/model-dialog.js").Backend} Backend
 * @typedef {import("./page/words.js").Remedy} Remedy
 * @typedef {import("./worker.js").Progress} Progress
 */

/** A server that does not say within this time how big a model is: its load has better words for that. */
const PATIENCE_MS = 5000;

/** @template {HTMLElement} [T=HTMLElement] @param {string} id @returns {T} */
const byId = (id) => /** @type {T} */ (document.getElementById(id));

const message = /** @type {HTMLTextAreaElement} */ (byId("message"));
const send = /** @type {HTMLButtonElement} */ (byId("send"));
const stop = /** @type {HTMLButtonElement} */ (byId("stop"));
const chat = new Chat(byId("turns"), byId("scroll"));
const card = new LoadCard(byId("card"), announce);
const settings = new SettingsDialog(/** @type {HTMLDialogElement} */ (byId("settings")));
const models = new ModelDialog(/** @type {HTMLDialogElement} */ (byId("models")), (next) => choose(next, true), changeBackend);

/** The loaded model. @type {Outcrop | null} */
let outcrop = null;
/** What is loaded, being loaded, or failed to load. @type {Choice | null} */
let choice = null;
/** A choice that is being looked at, or asked about. @type {AbortController | null} */
let looking = null;
/** @type {AbortController | null} */
let loading = null;
/** @type {AbortController | null} */
let answering = null;

// ---- loading ----

/** Loads what was chosen, after a question if it is big. @param {Choice} next @param {boolean} agreed the visitor has seen its size, and clicked on it */
async function choose(next, agreed) {
  if (!outcrop && !loading) say("status", `Looking at ${next.name}…`);
  looking?.abort();
  const controller = (looking = new AbortController());
  const patience = setTimeout(() => controller.abort(), PATIENCE_MS);
  const again = () => looking === controller && choose(next, false);
  const question = await offer(next, { backend: models.backend, agreed, load, freeSpace: () => freeSpace(again), signal: controller.signal });
  clearTimeout(patience);
  if (looking !== controller) return; // another was chosen meanwhile
  if (!question) return load(next);
  if (loading) {
    loading.abort();
    loading = choice = null;
    models.setCurrent(null, "");
    showModel();
  }
  if (!outcrop) say("status", "No model is loaded");
  card.ask({ ...question, actions: [...question.actions, ...(outcrop ? [{ label: "Not now", act: () => card.hide() }] : [])] });
  announce(question.title);
}

/** @param {Choice} next @param {Backend} [backend] */
async function load(next, backend = models.backend) {
  looking?.abort();
  loading?.abort();
  answering?.abort();
  outcrop?.free();
  outcrop = looking = null;
  const controller = (loading = new AbortController());
  const control = new DownloadControl();
  choice = next;
  models.backend = backend;
  models.setCurrent(next, "", true);
  remember(next, backend);
  showModel();
  card.start(next.name, { control, cancel: () => controller.abort(), freeSpace: () => freeSpace() });
  say("status", `Loading ${next.name}…`);
  announce(`Loading ${next.name}`);
  /** @type {Progress | null} */
  let last = null;
  try {
    const { signal } = controller;
    const onProgress = (/** @type {Progress} */ progress) => {
      if (outcrop && choice === next) showReturn(progress);
      else if (!signal.aborted) card.show((last = progress));
    };
    const loaded = await Outcrop.load(next.source, { backend, signal, control, onProgress });
    if (signal.aborted) return loaded.free();
    outcrop = loaded;
    card.hide();
    await showRuns();
    announce(`${next.name} is ready`);
    if (document.activeElement === document.body) message.focus({ preventScroll: true });
  } catch (error) {
    if (loading !== controller) return; // another model was chosen meanwhile
    choice = null;
    models.setCurrent(null, "");
    showModel();
    await showEnd(next, controller, last, error);
  } finally {
    if (loading === controller) loading = null;
    showButtons();
  }
}

/** A load was cancelled, or failed. @param {Choice} next @param {AbortController} controller of the load @param {Progress | null} last @param {unknown} error */
async function showEnd(next, controller, last, error) {
  card.stopping();
  const kept = last?.phase === "download" ? await keptOf(next) : 0;
  if (loading !== controller) return;
  if (!controller.signal.aborted) {
    card.fail(explain(error, kept), (remedy) => act(remedy, next));
    return say("status", `${next.name} could not be loaded`);
  }
  say("status", "No model is loaded");
  const question = last && cancelled(next, last, kept, { again: () => load(next), close: () => card.hide() });
  if (!question) return card.hide();
  card.ask(question);
  announce([question.title, ...question.text].join(". "));
}

/** @param {Remedy} remedy @param {Choice} failed the model that the trouble was with */
function act(remedy, failed) {
  if (remedy === "again" && outcrop) ask(chat.takeBack());
  else if (remedy === "retry" || remedy === "again") load(failed);
  else if (remedy === "cpu") load(failed, "cpu");
  else if (remedy === "models") models.open();
  else newChat();
}

/** To the list of what is stored, to delete some of it. @param {() => void} [then] when the dialog is closed */
function freeSpace(then) {
  models.open({ space: true });
  if (then) byId("models").addEventListener("close", then, { once: true });
}

/** @param {Backend} backend */
function changeBackend(backend) {
  if (choice) load(choice, backend);
  else remember(null, backend);
}

/** Puts the choice into the page's address. @param {Choice | null} next @param {Backend} backend */
function remember(next, backend) {
  const url = new URL(location.href);
  if (next?.query) url.searchParams.set("model", next.query);
  else if (next) url.searchParams.delete("model"); // a file has no address
  if (backend === "auto") url.searchParams.delete("backend");
  else url.searchParams.set("backend", backend);
  history.replaceState(null, "", url);
}

/** The model comes back by itself, after the GPU was lost. @param {import("./worker.js").Progress} progress */
function showReturn({ phase }) {
  if (phase === "ready") showRuns().catch(() => {});
  else say("status", `Loading ${choice?.name} again…`);
}

// ---- what runs ----

/** Shows the backend and, once there is one, its speed. */
async function showRuns() {
  if (!outcrop || !choice) return;
  const stats = await outcrop.stats();
  const rate = stats.last?.decode_tokens_per_second;
  say("status", [`${choice.name} on the ${device(stats.backend)}`, ...(rate ? [speed(rate)] : [])].join(" · "));
  // The reason is an error's message, which begins with the same words.
  const why = stats.fallback ? ` The GPU is not used: ${stats.fallback.replace(/^WebGPU is not available: /, "")}.` : "";
  const stored = stats.source.stored || !stats.source.why ? "" : ` Not wholly stored in this browser: ${stats.source.why.replace(/\.$/, "")}.`;
  byId("status").title = stats.adapter ?? "";
  say("fallback-text", `${why}${stored}`.trim());
  byId("free-space").hidden = !stored;
  byId("fallback").hidden = !why && !stored;
  const checked = stats.source.checked ? " Its bytes are those that were published (SHA-256)." : "";
  models.setCurrent(choice, `Now on the ${device(stats.backend)}${stats.adapter ? ` (${stats.adapter})` : ""}.${why}${checked}`);
}

/** The header's name, and the welcome text and examples that suit the model. */
function showModel() {
  say("model-name", choice?.name ?? "No model");
  byId("fallback").hidden = true;
  byId("demo-note").hidden = choice?.id !== "granite-demo";
  const prompts = choice?.examples ?? [];
  byId("examples-title").hidden = prompts.length === 0;
  byId("examples").replaceChildren(
    ...prompts.map((prompt) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = prompt;
      button.addEventListener("click", () => {
        if (outcrop) return ask(prompt);
        message.value = prompt; // still loading: it is one Enter away
        message.focus();
        showButtons();
      });
      const item = document.createElement("li");
      item.append(button);
      return item;
    }),
  );
  showButtons();
}

function showButtons() {
  const busy = answering !== null;
  if (busy && document.activeElement === send) message.focus();
  if (!busy && document.activeElement === stop) message.focus();
  send.hidden = busy;
  stop.hidden = !busy;
  send.disabled = !outcrop || message.value.trim() === "";
  byId("welcome").hidden = !chat.empty;
  document.body.classList.toggle("chatting", !chat.empty);
}

// ---- answering ----

/** @param {string} text */
async function ask(text) {
  if (!outcrop || !choice || answering || !text) return;
  const engine = outcrop;
  const from = choice;
  chat.addQuestion(text);
  const answer = chat.startAnswer(from.name);
  const controller = (answering = new AbortController());
  showButtons();
  let note = "";
  try {
    const { system, sampling } = settings.read();
    const messages = [...(system ? [{ role: /** @type {const} */ ("system"), content: system }] : []), ...chat.turns];
    const stream = await engine.chat.completions.create({ ...sampling, messages, stream: true, signal: controller.signal });
    for await (const { choices } of stream) {
      answer.write(choices[0]?.delta.content ?? "");
      if (choices[0]?.finish_reason === "length") note = "The answer reached its longest length; the settings can allow more.";
    }
    answer.end(note);
    announce(`${from.name}: ${answer.text}`);
  } catch (error) {
    if (controller.signal.aborted) {
      answer.end("Stopped");
      announce("Stopped");
    } else {
      failed(error, answer, from);
    }
  } finally {
    if (answering === controller) answering = null;
    showButtons();
    if (outcrop === engine) showRuns().catch(() => {}); // the trouble, if any, has been told
  }
}

/** @param {unknown} error @param {import("./page/chat.js").Answer} answer @param {Choice} from */
function failed(error, answer, from) {
  const explanation = explain(error);
  const { code } = /** @type {{code?: string}} */ (error);
  const gone = ["engine_crashed", "gpu", "out_of_memory"].includes(code ?? "");
  answer.fail(explanation, (remedy) => {
    if (remedy !== "models" && !(remedy === "again" && outcrop)) message.value ||= chat.takeBack(); // to be asked again, one Enter away
    act(remedy, from);
    showButtons();
    message.focus();
  });
  if (gone) {
    outcrop?.free();
    outcrop = null;
    say("status", "No model is loaded");
  }
}

function newChat() {
  answering?.abort();
  chat.clear();
  showButtons();
  announce("New chat");
  message.focus();
}

// ---- small things ----

/** @param {string} id @param {string} text */
function say(id, text) {
  byId(id).textContent = text;
}

/** For screen readers: one sentence for each thing that happened, a whole answer at its end. @param {string} text */
function announce(text) {
  say("announce", text);
}

function submit() {
  const text = message.value.trim();
  if (send.disabled || answering || !text) return;
  message.value = "";
  fitMessage();
  ask(text);
}

/** Browsers without `field-sizing` get the box's height by hand. */
function fitMessage() {
  if (CSS.supports("field-sizing", "content")) return;
  message.style.height = "auto";
  message.style.height = `${message.scrollHeight}px`;
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
message.addEventListener("input", () => {
  fitMessage();
  showButtons();
});
message.addEventListener("keydown", (event) => {
  // While an input method is composing, Enter picks a word.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && answering && !document.querySelector("dialog[open]")) answering.abort();
});
stop.addEventListener("click", () => answering?.abort());
byId("new-chat").addEventListener("click", newChat);
byId("open-settings").addEventListener("click", () => settings.open());
byId("free-space").addEventListener("click", () => freeSpace());
byId("open-models").addEventListener("click", () => models.open());
byId("choose-granite").addEventListener("click", () => models.open());
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => {
    const inside = /** @type {Element} */ (event.target);
    if (inside === dialog || inside.closest("[data-close]")) dialog.close();
  });
}

acceptDrops(byId("drop"), (files) => {
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
  load(byFiles(files));
});

// ---- the first model ----

async function first() {
  const query = new URL(location.href).searchParams;
  const backend = query.get("backend");
  if (backend === "webgpu" || backend === "cpu") models.backend = backend;
  try {
    await choose(await byName(query.get("model") ?? "granite-demo"), false);
  } catch (error) {
    card.fail(explain(error), (remedy) => (remedy === "models" ? models.open() : location.reload()));
    say("status", "No model is loaded");
  }
}

showModel();
await first();
