// @ts-check
// The chat page: one model at a time, one answer at a time.
//
// Everything that lasts is in three places: the conversation (page/chat.js), the loaded model (`outcrop`), and the page's address
// (`?model=` and `backend=`), which a visitor may keep or share. Losing the engine loses no word of the conversation.

import { Outcrop } from "./outcrop.js";
import { Chat } from "./page/chat.js";
import { LoadCard } from "./page/load-card.js";
import { ModelDialog, byFile, byUrl, known } from "./page/model-dialog.js";
import { SettingsDialog } from "./page/settings.js";
import { device, explain, size, speed } from "./page/words.js";

/**
 * @typedef {import("./page/model-dialog.js").Choice} Choice
 * @typedef {import("./page/model-dialog.js").Backend} Backend
 * @typedef {import("./page/words.js").Remedy} Remedy
 */

/** Known models up to this many bytes are loaded without asking. */
const SMALL = 20e6;

/** @template {HTMLElement} [T=HTMLElement] @param {string} id @returns {T} */
const byId = (id) => /** @type {T} */ (document.getElementById(id));

const message = /** @type {HTMLTextAreaElement} */ (byId("message"));
const send = /** @type {HTMLButtonElement} */ (byId("send"));
const stop = /** @type {HTMLButtonElement} */ (byId("stop"));
const chat = new Chat(byId("turns"), byId("scroll"));
const card = new LoadCard(byId("card"));
const settings = new SettingsDialog(/** @type {HTMLDialogElement} */ (byId("settings")));
const models = new ModelDialog(/** @type {HTMLDialogElement} */ (byId("models")), load, changeBackend);

/** The loaded model. @type {Outcrop | null} */
let outcrop = null;
/** What is loaded, being loaded, or failed to load. @type {Choice | null} */
let choice = null;
/** @type {AbortController | null} */
let loading = null;
/** @type {AbortController | null} */
let answering = null;

// ---- loading ----

/** @param {Choice} next @param {Backend} [backend] */
async function load(next, backend = models.backend) {
  loading?.abort();
  answering?.abort();
  outcrop?.free();
  outcrop = null;
  const controller = (loading = new AbortController());
  choice = next;
  models.backend = backend;
  models.setCurrent(next, "");
  remember(next, backend);
  showModel();
  card.start(next.name, () => controller.abort());
  say("status", `Loading ${next.name}…`);
  announce(`Loading ${next.name}`);
  try {
    const { signal } = controller;
    const onProgress = (/** @type {import("./worker.js").Progress} */ progress) => {
      if (outcrop && choice === next) showReturn(progress);
      else if (!signal.aborted) card.show(progress);
    };
    const loaded = await Outcrop.load(next.source, { backend, signal, onProgress });
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
    if (controller.signal.aborted) {
      card.hide();
      say("status", "No model is loaded");
    } else {
      card.fail(explain(error), (remedy) => act(remedy, next));
      say("status", `${next.name} could not be loaded`);
    }
    showModel();
  } finally {
    if (loading === controller) loading = null;
    showButtons();
  }
}

/** @param {Remedy} remedy @param {Choice} failed the model that the trouble was with */
function act(remedy, failed) {
  if (remedy === "again" && outcrop) ask(chat.takeBack());
  else if (remedy === "retry" || remedy === "again") load(failed);
  else if (remedy === "cpu") load(failed, "cpu");
  else if (remedy === "models") models.open();
  else newChat();
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
  const stored = stats.source.stored || !stats.source.why ? "" : ` Not stored in this browser: ${stats.source.why}.`;
  byId("status").title = stats.adapter ?? "";
  say("fallback", `${why}${stored}`.trim());
  byId("fallback").hidden = !why && !stored;
  models.setCurrent(choice, `Now on the ${device(stats.backend)}${stats.adapter ? ` (${stats.adapter})` : ""}.${why}`);
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
byId("open-models").addEventListener("click", () => models.open());
byId("choose-granite").addEventListener("click", () => models.open());
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => {
    const inside = /** @type {Element} */ (event.target);
    if (inside === dialog || inside.closest("[data-close]")) dialog.close();
  });
}

// ---- drag and drop ----

const drop = byId("drop");
/** @param {DragEvent} event */
const carriesFile = (event) => event.dataTransfer?.types.includes("Files") ?? false;
document.addEventListener("dragover", (event) => {
  if (!carriesFile(event)) return;
  event.preventDefault();
  drop.hidden = false;
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) drop.hidden = true; // left the window, not just an element
});
document.addEventListener("drop", (event) => {
  if (!carriesFile(event)) return;
  event.preventDefault();
  drop.hidden = true;
  const file = event.dataTransfer?.files[0];
  if (!file) return;
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
  load(byFile(file));
});

// ---- the first model ----

async function first() {
  const query = new URL(location.href).searchParams;
  const backend = query.get("backend");
  if (backend === "webgpu" || backend === "cpu") models.backend = backend;
  const wanted = query.get("model") ?? "granite-demo";
  try {
    const found = (await Outcrop.catalogue()).find(({ id }) => id === wanted);
    if (!found) return await load(/[/:]|\.gguf$/i.test(wanted) ? byUrl(new URL(wanted, document.baseURI).href) : { name: wanted, source: wanted, query: wanted });
    const next = known(found);
    if (found.bytes <= SMALL) return await load(next);
    // A link must not start a download of this size by itself; what is stored already costs nothing.
    const stored = await Outcrop.models().catch(() => []);
    if (stored.some(({ url, complete }) => complete && url === found.url)) return await load(next);
    say("status", "No model is loaded");
    card.ask(
      `${found.name} is a download of ${size(found.bytes)}`,
      "It comes over the network once, and is then kept in this browser.",
      `Download ${size(found.bytes)}`,
      () => load(next),
    );
  } catch (error) {
    card.fail(explain(error), () => location.reload());
    say("status", "No model is loaded");
  }
}

showModel();
await first();
