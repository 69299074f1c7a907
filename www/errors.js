// @ts-check
// What the API throws: an OutcropError with a stable `code`, or, after an abort, the signal's own reason, as fetch() does.

/** Anything that went wrong. `code` is for programs and stays stable; `message` is for people. */
export class OutcropError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   */
  constructor(code, message) {
    super(message);
    this.name = "OutcropError";
    /** @readonly */
    this.code = code;
  }
}

/** What an aborted call rejects with. @param {AbortSignal} signal @returns {any} */
export const abortReason = (signal) => signal.reason ?? new DOMException("The operation was aborted.", "AbortError");
