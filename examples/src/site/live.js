"use strict";
// Brings the open list of connected apps up to date. Without it the page works all the same.
(() => {
  const live = document.getElementById("live");
  const said = document.getElementById("said");
  if (!live || !said || !window.EventSource) return;

  let busy = false;
  let again = false;

  // Between pressing and releasing, what is pressed stays where it is: if it were replaced, the click
  // would be lost, and if it moved, the click would meet something else.
  let pressed = false;
  let released = () => {};
  addEventListener("pointerdown", () => { pressed = true; }, true);
  for (const end of ["pointerup", "pointercancel"]) {
    addEventListener(end, () => {
      pressed = false;
      // The click itself comes after this event.
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
      const answer = await fetch(location.pathname, { credentials: "same-origin" });
      if (answer.redirected) {
        location.reload();
        return;
      }
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("live");
      if (!fresh || fresh.innerHTML === live.innerHTML) return;
      if (pressed) await new Promise((resolve) => { released = resolve; });
      const news = fresh.dataset.state !== live.dataset.state;
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
      // What is read out is what is new, and not that a minute has passed.
      if (news) {
        const notice = live.querySelector("[data-news]");
        said.textContent = notice ? notice.textContent : "The list was brought up to date.";
      }
    } catch (error) {
      // The next event, or the next look, tries again.
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
  // What happened while nobody listened is fetched as well.
  source.addEventListener("error", () => { lost = true; });
  source.addEventListener("ready", () => {
    if (lost) refresh();
    lost = false;
  });
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") refresh();
  });
})();
