// Chooses light or dark before anything is drawn: the system's, unless somebody says otherwise.
// Tells others by the event "theme".
"use strict";
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => {
    try {
      return localStorage.getItem("flow-agent-theme") || "auto";
    } catch {
      return "auto"; // Storage may be switched off.
    }
  };
  const apply = (choice) => {
    root.dataset.theme = choice === "auto" ? (dark.matches ? "dark" : "light") : choice;
    dispatchEvent(new Event("theme"));
  };
  apply(stored());
  dark.addEventListener("change", () => apply(stored()));
  addEventListener("DOMContentLoaded", () => {
    const select = document.getElementById("theme");
    select.value = stored();
    select.addEventListener("change", () => {
      try {
        localStorage.setItem("flow-agent-theme", select.value);
      } catch {
        // It holds until the page is loaded again.
      }
      apply(select.value);
    });
  });
})();
