"use strict";

// Keeps the page up to date without loading it again: asks for its changing part, and changes in
// the document only what differs, so that focus, selection, typed text and scroll position stay.
(() => {
  const MOST_MS = 30000;
  const PATIENCE_MS = 15000;

  const region = document.querySelector("[data-live]");
  if (!region) return;
  const lost = document.getElementById("lost");
  const updated = document.querySelector("[data-updated]");
  const button = document.querySelector("[data-pause]");
  let paused = sessionStorage.getItem("paused") === "yes";
  let wait = every();
  let heardAt = Date.now();
  let timer = 0;
  let asking = false;

  function every() {
    return 1000 * Number(region.dataset.live);
  }

  function later() {
    clearTimeout(timer);
    if (!paused && !document.hidden) timer = setTimeout(refresh, wait);
  }

  async function refresh() {
    if (asking) return;
    asking = true;
    try {
      const answer = await fetch(location.href, {
        headers: { "X-Live": "1" },
        cache: "no-store",
        redirect: "error",
        signal: AbortSignal.timeout(PATIENCE_MS),
      });
      if (answer.status === 401 || answer.status === 404) {
        location.reload(); // which leads to the login, or tells what is gone
        return;
      }
      if (!answer.headers.has("X-Live")) throw new Error(`answer ${answer.status}`);
      show(await answer.text());
      region.dataset.live = answer.headers.get("X-Live");
      heard();
    } catch {
      wait = Math.min(2 * wait, MOST_MS);
      lost.querySelector("[data-lost-since]").textContent = age(Date.now() - heardAt);
      lost.hidden = false;
    } finally {
      asking = false;
      later();
    }
  }

  function heard() {
    wait = every();
    heardAt = Date.now();
    lost.hidden = true;
    updated.textContent = `updated ${new Date().toISOString().slice(11, 19)}`;
  }

  function age(ms) {
    const seconds = Math.round(ms / 1000);
    return seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
  }

  function show(html) {
    const found = new DOMParser().parseFromString(html, "text/html");
    document.title = found.title;
    align(region, found.body);
  }

  // Make the children of one node those of another.
  function align(node, wanted) {
    let now = node.firstChild;
    let then = wanted.firstChild;
    while (then) {
      const next = then.nextSibling;
      if (!now) {
        node.append(then);
      } else if (now.nodeType !== then.nodeType || now.nodeName !== then.nodeName) {
        const after = now.nextSibling;
        now.replaceWith(then);
        now = after;
      } else {
        change(now, then);
        now = now.nextSibling;
      }
      then = next;
    }
    while (now) {
      const after = now.nextSibling;
      now.remove();
      now = after;
    }
  }

  function change(now, then) {
    if (now.nodeType !== Node.ELEMENT_NODE) {
      if (now.nodeValue !== then.nodeValue) now.nodeValue = then.nodeValue;
      return;
    }
    for (const { name, value } of then.attributes) {
      if (now.getAttribute(name) !== value) now.setAttribute(name, value);
    }
    for (const { name } of [...now.attributes]) {
      const opened = name === "open" && now.nodeName === "DETAILS"; // by the reader
      if (!opened && !then.hasAttribute(name)) now.removeAttribute(name);
    }
    align(now, then);
  }

  function told() {
    button.textContent = paused ? "Resume updates" : "Pause updates";
  }

  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    sessionStorage.setItem("paused", paused ? "yes" : "no");
    told();
    if (paused) clearTimeout(timer);
    else refresh();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else if (!paused) refresh();
  });
  told();
  later();
})();
