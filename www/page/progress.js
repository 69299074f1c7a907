// @ts-check
// A load's progress in words: one line for the eye, and what a screen reader should hear when something changes.

import { device, duration, size } from "./words.js";

/**
 * @typedef {import("../worker.js").Progress} Progress
 *
 * @typedef {"moving" | "paused" | "offline" | "retry" | "busy" | "other-tab"} Pace whether bytes come, and if not, why
 */

/** Where the bytes come from, in words. @type {Record<string, string>} */
const VERBS = { download: "Downloading", cache: "Reading", file: "Reading" };

/** Whether this phase counts the bytes of the model's file. @param {Progress} progress */
export const counts = ({ phase }) => phase in VERBS;

/** @param {Progress} progress @returns {Pace} */
export const pace = ({ phase, paused, waiting }) => (!(phase in VERBS) ? "moving" : waiting === "other-tab" ? waiting : paused ? "paused" : (waiting ?? "moving"));

/** `340 MB of 1.94 GB`. @param {number} part @param {number | null} whole */
export const share = (part, whole) => (whole ? `${size(part)} of ${size(whole)}` : size(part));

/**
 * What goes on, in parts that are best not broken.
 *
 * @param {Progress} progress
 * @param {number} passed seconds since this was true: waits are counted down in between
 * @returns {string[]}
 */
export function line(progress, passed) {
  const { phase, backend, loaded, total, bytesPerSecond, secondsLeft, fromCache, retrySeconds } = progress;
  if (!counts(progress)) return [phase === "upload" ? `Handing it to the ${device(backend)}…` : "Getting ready…"];
  const have = share(loaded, total);
  const arrived = loaded > 0 ? [have] : [];
  const rate = [
    ...(bytesPerSecond ? [`${size(bytesPerSecond)}/s`] : []),
    ...(secondsLeft !== null && secondsLeft > 2 ? [`${duration(secondsLeft)} left`] : []),
  ];
  const again = retrySeconds === null || retrySeconds - passed < 1 ? "Trying again…" : `Trying again in ${wait(retrySeconds - passed)}.`;
  switch (pace(progress)) {
    case "paused":
      return [`Paused at ${have}`];
    case "offline":
      return [...arrived, "Waiting for the network; it goes on by itself."];
    case "retry":
      return loaded > 0 ? [have, `The connection broke off. ${again}`] : [`The server does not answer. ${again}`];
    case "busy":
      return [...arrived, `The server is busy. ${again}`];
    case "other-tab":
      return ["Another tab is downloading this model; this one will use it", ...arrived, ...rate];
    default: {
      const place = fromCache || phase === "cache" ? " from this browser" : phase === "file" ? " your file" : "";
      return [`${VERBS[phase]}${place}: ${have}`, ...rate];
    }
  }
}

/** Below the line, where it is of use: what of it was here before. @param {Progress} progress */
export function footnote({ phase, resumed, note }) {
  if (note) return note;
  return phase === "download" && resumed > 0 ? `${size(resumed)} were stored in this browser already.` : "";
}

/** What a screen reader hears when it changes. @param {Pace} pace */
export function news(pace) {
  return {
    moving: "The download goes on",
    paused: "The download is paused",
    offline: "No network. The download goes on by itself",
    retry: "The server does not answer. Trying again",
    busy: "The server is busy. Trying again",
    "other-tab": "Another tab is downloading this model",
  }[pace];
}

/** Counted down in whole seconds, as people wait for them. @param {number} seconds */
function wait(seconds) {
  const whole = Math.ceil(seconds);
  if (whole > 90) return duration(whole);
  return `${whole} ${whole === 1 ? "second" : "seconds"}`;
}
