// Shows the page's figures anew every few seconds, as the server renders them. A parsed page runs no script, and its text
// stays text.
"use strict";

const EVERY_MS = 3000;

async function refresh() {
  try {
    if (!document.hidden) {
      const answer = await fetch(location.href, { credentials: "same-origin" });
      if (answer.status === 401) {
        location.reload();
        return;
      }
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-live]");
      const shown = document.querySelector("[data-live]");
      if (answer.ok && fresh && shown) shown.replaceWith(document.adoptNode(fresh));
    }
  } catch {
    // The server is away for a moment: the next attempt may find it.
  }
  setTimeout(refresh, EVERY_MS);
}

setTimeout(refresh, EVERY_MS);
