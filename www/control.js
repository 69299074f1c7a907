// @ts-check
// Pausing a download, and letting it go on.
//
// The page has one, given to a load; the engine's worker has a twin of it for that load, and the engine waits at it before each request.

/**
 * Pauses a load's download and continues it: `Outcrop.load(model, { control })`. A control may be given to several loads; all heed it.
 *
 * What has arrived is stored, and stays. What is not a download (reading from storage, uploading to the GPU) goes on.
 */
export class DownloadControl {
  #paused = false;

  /** Tells of each pause and each continuation by an event "change". @readonly */
  changed = new EventTarget();

  /** Whether the download stands still, or will as soon as it would begin. */
  get paused() {
    return this.#paused;
  }

  pause() {
    this.#set(true);
  }

  continue() {
    this.#set(false);
  }

  /** @param {boolean} paused */
  #set(paused) {
    if (this.#paused === paused) return;
    this.#paused = paused;
    this.changed.dispatchEvent(new Event("change"));
  }

  /** Resolves as soon as it is not paused. @returns {Promise<void>} */
  async wait() {
    while (this.#paused) await new Promise((resolve) => this.changed.addEventListener("change", resolve, { once: true }));
  }
}
