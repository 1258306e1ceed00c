// What somebody should look at, the gravest first, and what to do about it.

import { $, make } from "./dom.js";

const CHIP = { critical: "bad", warning: "warn", info: "" };
let shown = "";

/** Draws the alerts, when they have changed. */
export function update(alerts) {
  const now = JSON.stringify(alerts);
  if (now === shown) return;
  shown = now;
  const place = $("alerts");
  if (alerts.length === 0) {
    place.replaceChildren(make("p", { className: "calm", textContent: "Nothing needs your attention." }));
    return;
  }
  place.replaceChildren(...alerts.map(draw));
}

function draw(alert) {
  const box = make("article", { className: `alert ${alert.severity}` });
  box.dataset.id = alert.id;
  box.append(
    make("span", { className: `chip ${CHIP[alert.severity]}`, textContent: alert.severity }),
    make("h3", { textContent: alert.title }),
    make("p", { textContent: alert.detail }),
    make("p", { textContent: alert.action }),
  );
  if (alert.settings.length > 0) {
    const settings = alert.settings.map((name) => make("code", { textContent: name }));
    box.append(make("p", { className: "settings quiet" }, "Settings:", ...settings));
  }
  return box;
}
