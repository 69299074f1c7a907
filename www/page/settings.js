// @ts-check
// The settings dialog: system prompt and sampling. Kept while the tab lives, and nowhere else.

const NUMBERS = /** @type {const} */ (["temperature", "max_tokens", "top_p", "top_k", "min_p", "repetition_penalty", "seed"]);

/** @typedef {{system: string, sampling: Partial<Record<typeof NUMBERS[number], number>>}} Settings */

export class SettingsDialog {
  #dialog;

  /** @param {HTMLDialogElement} dialog */
  constructor(dialog) {
    this.#dialog = dialog;
    // A number out of range would be refused by the engine, later and less clearly.
    for (const name of NUMBERS) {
      const input = this.#input(name);
      input.addEventListener("change", () => {
        if (input.value !== "" && !input.validity.valid) input.value = String(clamp(input));
      });
    }
  }

  open() {
    this.#dialog.showModal();
  }

  /** @returns {Settings} */
  read() {
    /** @type {Settings["sampling"]} */
    const sampling = {};
    for (const name of NUMBERS) {
      const input = this.#input(name);
      if (input.value !== "" && Number.isFinite(input.valueAsNumber)) sampling[name] = input.valueAsNumber;
    }
    const system = /** @type {HTMLTextAreaElement} */ (this.#dialog.querySelector("#system")).value.trim();
    return { system, sampling };
  }

  /** @param {string} name @returns {HTMLInputElement} */
  #input(name) {
    return /** @type {HTMLInputElement} */ (this.#dialog.querySelector(`#${name}`));
  }
}

/** @param {HTMLInputElement} input */
function clamp(input) {
  const [low, high] = [Number(input.min), input.max === "" ? Infinity : Number(input.max)];
  const value = Math.min(high, Math.max(low, input.valueAsNumber || low));
  return Number(input.step) === 1 ? Math.round(value) : value;
}
