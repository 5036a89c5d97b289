// Keeps the status page fresh: asks for the page again and takes over its parts, one by one. A part
// that holds the keyboard's focus or a selection stays as it is, so that nobody is interrupted.
"use strict";
(() => {
  const EVERY_MS = 5000;
  const button = document.querySelector("[data-pause]");
  const said = document.querySelector("[data-said]");
  let paused = false;

  const isInUse = (part) => {
    const selection = document.getSelection();
    return part.contains(document.activeElement) ||
      (selection && !selection.isCollapsed && part.contains(selection.anchorNode));
  };

  const refresh = async () => {
    if (paused || document.hidden) return;
    try {
      const answer = await fetch(location.pathname, { credentials: "same-origin" });
      if (answer.redirected) { location.assign(answer.url); return; }
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.title = fresh.title;
      for (const part of document.querySelectorAll("[data-part]")) {
        const other = fresh.querySelector(`[data-part="${part.dataset.part}"]`);
        if (!other) { location.reload(); return; }
        if (!isInUse(part) && part.outerHTML !== other.outerHTML) part.replaceWith(other);
      }
      said.textContent = "";
    } catch {
      said.textContent = "The server does not answer; this page is not up to date.";
    }
  };

  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? "Resume updates" : "Pause updates";
    said.textContent = paused ? "Updates are paused." : "";
    refresh();
  });
  setInterval(refresh, EVERY_MS);
})();
