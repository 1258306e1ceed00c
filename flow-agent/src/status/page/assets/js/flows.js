// Open flows, found by words. The agent searches: it has all of them, the page has a hundred.

import { get, Refused } from "./api.js";
import { $, Rows, write } from "./dom.js";
import * as format from "./format.js";

/** Flows that are shown. */
const MOST = 100;
/** After the last key, ms. */
const TYPING = 250;

const end = (address, port) => (port ? (address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`) : address);
const table = new Rows("t-flows", (flow) => `${flow.interface} ${flow.direction} ${flow.key} ${flow.flow_start}`, [
  { head: true, kind: "m", text: (flow) => `${end(flow.src_ip, flow.src_port)} → ${end(flow.dst_ip, flow.dst_port)}` },
  { text: (flow) => flow.service || format.protocol(flow.protocol), title: (flow) => format.protocol(flow.protocol) },
  { kind: "w", text: (flow) => `${flow.interface} ${flow.direction === "ingress" ? "in" : flow.direction === "egress" ? "out" : ""}` },
  { kind: "n", text: (flow) => format.count(flow.packets + flow.reverse_packets), value: (flow) => flow.packets + flow.reverse_packets },
  { kind: "n", text: (flow) => format.octets(flow.bytes), value: (flow) => flow.bytes },
  { kind: "n", text: (flow) => format.octets(flow.reverse_bytes), value: (flow) => flow.reverse_bytes },
  { kind: "w", text: (flow) => format.clock(flow.flow_start) },
  { kind: "w", text: (flow) => format.clock(flow.flow_end) },
]);
const input = $("flow-search");
let asked = 0;

/** Asks for the flows that the words mean. */
export async function update() {
  const search = input.value.trim();
  const number = (asked += 1);
  try {
    const page = await get(`/api/v1/flows/open?limit=${MOST}&search=${encodeURIComponent(search)}`);
    // Somebody has typed on.
    if (number !== asked) return;
    table.update(page.flows, search ? "No open flow is meant by that." : "No flow is open.");
    const words = page.matching === page.shown ? `${format.whole(page.matching)}` : `${page.shown} of ${format.whole(page.matching)}`;
    write($("flows-count"), `${words}${search ? ` that match ${search}` : ""}, most octets first`);
    $("flow-error").hidden = true;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    $("flow-error").textContent = error.message;
    $("flow-error").hidden = false;
  }
}

let timer = null;
input.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(() => update().catch(() => {}), TYPING);
});
$("flow-form").addEventListener("submit", (event) => {
  event.preventDefault();
  update().catch(() => {});
});
