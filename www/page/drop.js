// @ts-check
// Files dropped anywhere on the page.

/** @param {HTMLElement} curtain what is shown while files are held over the page @param {(files: File[]) => void} take */
export function acceptDrops(curtain, take) {
  /** @param {DragEvent} event */
  const carriesFile = (event) => event.dataTransfer?.types.includes("Files") ?? false;
  document.addEventListener("dragover", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    curtain.hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) curtain.hidden = true; // left the window, not just an element
  });
  document.addEventListener("drop", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    curtain.hidden = true;
    const files = [...(event.dataTransfer?.files ?? [])];
    if (files.length) take(files);
  });
}
