// How long the stages take: percentiles, and a histogram of one of them.

import { Bars } from "./charts.js";
import { $, make, Rows } from "./dom.js";
import * as format from "./format.js";

const NAMES = {
  drain: "Drain of the kernel tables",
  cache: "Message to a cache shard",
  batch: "Row waits in its batch",
  insert: "Insert",
  packet_to_acknowledged: "Last packet to stored",
};
const name = (stage) => NAMES[stage] ?? stage;
const quantile = (field) => ({ kind: "n", text: ([, stage]) => format.duration(stage[field]), value: ([, stage]) => stage[field] ?? "" });
const table = new Rows("t-latency", ([stage]) => stage, [
  { head: true, text: ([stage]) => name(stage) },
  { kind: "n", text: ([, stage]) => format.count(stage.count), value: ([, stage]) => stage.count },
  ...["p50", "p90", "p99", "p999", "max"].map(quantile),
]);
const bars = new Bars("histogram", "histogram-legend", format.duration);
const select = $("stage");
let stages = {};
let shown = "";

export function update(page) {
  stages = page.latency.stages;
  const order = Object.keys(NAMES).filter((stage) => stages[stage]);
  table.update(order.map((stage) => [stage, stages[stage]]));
  if (select.options.length === 0) {
    select.append(...order.map((stage) => make("option", { value: stage, textContent: name(stage) })));
    select.value = "insert";
  }
  draw();
}

function draw() {
  const stage = stages[select.value];
  if (!stage) return;
  const now = `${select.value} ${JSON.stringify(stage.buckets)}`;
  if (now === shown) return;
  shown = now;
  bars.update(stage.buckets);
  const words = `${name(select.value)}: ${format.count(stage.count)} measured, median ${format.duration(stage.p50)}, 99 % at most ${format.duration(stage.p99)}`;
  $("histogram").setAttribute("aria-label", words);
}

select.addEventListener("change", draw);
