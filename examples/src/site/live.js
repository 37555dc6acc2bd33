"use strict";
// Updates the open list of connected apps. The page works without this script.
(() => {
  const live = document.getElementById("live");
  const said = document.getElementById("said");
  if (!live || !said || !window.EventSource) return;

  let busy = false;
  let again = false;

  // Between pointerdown and pointerup the pressed element stays in place: if it were replaced, the
  // click would be lost, and if it moved, the click would hit another element.
  // A menu or another window can receive the release, so the wait has a limit.
  const MAX_PRESS_MS = 1000;
  let pressed = false;
  let released = () => {};
  addEventListener("pointerdown", () => { pressed = true; }, true);
  for (const end of ["pointerup", "pointercancel"]) {
    addEventListener(end, () => {
      pressed = false;
      // The click event follows this event.
      setTimeout(released);
    }, true);
  }

  async function refresh() {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      const response = await fetch(location.pathname, { credentials: "same-origin" });
      if (response.redirected) {
        location.reload();
        return;
      }
      if (!response.ok) return;
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const fresh = page.getElementById("live");
      if (!fresh || fresh.innerHTML === live.innerHTML) return;
      if (pressed) {
        await new Promise((resolve) => {
          released = resolve;
          setTimeout(resolve, MAX_PRESS_MS);
        });
      }
      const hasNews = fresh.dataset.state !== live.dataset.state;
      live.dataset.state = fresh.dataset.state;
      const focused = document.activeElement && live.contains(document.activeElement)
        ? document.activeElement.id
        : "";
      live.replaceChildren(...fresh.childNodes);
      const focus = focused && document.getElementById(focused);
      if (focus) focus.focus();
      const count = page.getElementById("count");
      const shown = document.getElementById("count");
      if (count && shown) shown.replaceChildren(...count.childNodes);
      // Screen readers announce news, not the passing of minutes.
      if (hasNews) {
        const notice = live.querySelector("[data-news]");
        said.textContent = notice ? notice.textContent : "The list was brought up to date.";
      }
    } catch (error) {
      // The next event or the next page visibility change tries again.
    } finally {
      busy = false;
      if (again) {
        again = false;
        refresh();
      }
    }
  }

  let lost = false;
  const source = new EventSource("/apps/events");
  source.addEventListener("change", refresh);
  // Changes during a lost connection are fetched as well.
  source.addEventListener("error", () => { lost = true; });
  source.addEventListener("ready", () => {
    if (lost) refresh();
    lost = false;
  });
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") refresh();
  });
})();
