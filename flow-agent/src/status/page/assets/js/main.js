// The loop: asks the agent while the page is seen, and gives each part what is new.

import * as alerts from "./alerts.js";
import { get } from "./api.js";
import { $ } from "./dom.js";
import * as flows from "./flows.js";
import * as format from "./format.js";
import * as history from "./history.js";
import * as latency from "./latency.js";
import * as ledger from "./ledger.js";
import * as stages from "./stages.js";
import * as top from "./top.js";
import * as traffic from "./traffic.js";

/** Between two answers and the next question, ms. */
const PACE = 2000;
/** Flows and interfaces are asked for each so many times; the past even less often. */
const SELDOM = 2;
const RARELY = 30;

let [turn, timer, awaySince, busy] = [0, null, null, false];
let paused = false;

/** Sections that are on the screen: what nobody sees is not asked for. */
const seen = new Set();
const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const before = seen.has(target.id);
    if (isIntersecting) seen.add(target.id);
    else seen.delete(target.id);
    if (isIntersecting && !before && awaySince === null) parts(target.id).catch(() => {});
  }
}, { rootMargin: "200px" });
for (const section of document.querySelectorAll("main > section")) observer.observe(section);

async function parts(id) {
  if (id === "flows") await flows.update();
  if (id === "stages") stages.updateInterfaces(await get("/api/v1/interfaces"));
  if (id === "history") await history.update();
}

async function tick() {
  if (busy) return;
  clearTimeout(timer);
  busy = true;
  try {
    const page = await get(`/api/v1/overview?since=${traffic.since()}`);
    show(page);
    if (turn === 0) performance.mark("first values");
    here();
    for (const id of turn % SELDOM === 0 ? seen : []) {
      if (turn > 0 && (id !== "history" || turn % RARELY === 0 || history.failed())) await parts(id);
    }
    turn += 1;
  } catch (error) {
    gone(error);
  } finally {
    busy = false;
    if (!paused && !document.hidden) timer = setTimeout(tick, PACE);
  }
}

function show(page) {
  const { status } = page;
  $("exporter").textContent = status.exporter;
  document.title = `${status.exporter} · flow-agent`;
  const phase = $("phase");
  phase.textContent = status.phase;
  const worst = page.alerts[0]?.severity;
  phase.className = `chip ${worst === "critical" ? "bad" : worst === "warning" || status.phase !== "metering" ? "warn" : "good"}`;
  $("uptime").textContent = format.seconds(status.uptime_s);
  $("version").textContent = status.version;
  alerts.update(page.alerts);
  for (const part of [traffic, top, stages, latency, ledger]) part.update(page);
  document.body.dataset.turn = turn + 1; // For tests.
}

function here() {
  awaySince = null;
  $("away").hidden = true;
  document.body.classList.remove("stale");
  $("live").textContent = paused ? "paused" : "live";
}

function gone(error) {
  awaySince ??= new Date();
  const time = awaySince.toLocaleTimeString("en-GB");
  const why = error.status ? error.message : "it does not answer";
  const text = `No news from the agent since ${time}: ${why}. What is shown is of before; asking again every ${PACE / 1000} s.`;
  if ($("away").textContent !== text) $("away").textContent = text;
  $("away").hidden = false;
  document.body.classList.add("stale");
  $("live").textContent = "away";
}

$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", paused);
  $("live").textContent = paused ? "paused" : "live";
  clearTimeout(timer);
  if (!paused) tick();
});
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden && !paused) tick();
});
tick();
