// The past of this host: the agent asks the store's rollups, seldom, and for all pages at once.

import { get, Refused } from "./api.js";
import { InOut } from "./charts.js";
import { $ } from "./dom.js";
import * as format from "./format.js";

const chart = new InOut("history-chart", "history-legend", format.bits, "Bits a second in the past");
const note = $("history-note");
let asked = 0;
let refused = false;

/** True if the last answer was none: it is worth asking again soon. */
export const failed = () => refused;

export async function update() {
  const hours = document.querySelector("#ranges input:checked").value;
  const number = (asked += 1);
  try {
    const page = await get(`/api/v1/history?hours=${hours}`);
    if (number !== asked) return;
    refused = false;
    const data = [[], [], []];
    const points = new Map(page.points.map((point) => [point[0], point]));
    for (let at = page.from; at < page.to; at += page.step_s) {
      const [, , received = 0, , sent = 0] = points.get(at) ?? [];
      data[0].push(at);
      data[1].push((received ?? 0) / page.step_s);
      data[2].push((sent ?? 0) / page.step_s);
    }
    chart.update(data);
    const flows = page.points.reduce((all, point) => all + point[5], 0);
    const [received, sent] = [2, 4].map((column) => page.points.reduce((all, point) => all + point[column], 0));
    note.textContent = `${format.whole(flows)} flow records, ${format.octets(received)} received, ${format.octets(sent)} sent; points of ${format.seconds(page.step_s)} from ${page.table}`;
    note.dataset.flows = flows;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    refused = true;
    note.textContent = `The store cannot be asked: ${error.message}`;
  }
}

$("ranges").addEventListener("change", () => update().catch(() => {}));
