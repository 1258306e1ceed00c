// Who talks most, and what the analytics noticed.

import { $, Rows, write } from "./dom.js";
import * as format from "./format.js";

const about = (entry) =>
  entry.octets_error > 0
    ? `between ${format.octets(entry.octets - entry.octets_error)} and ${format.octets(entry.octets)}`
    : format.octets(entry.octets);
const octets = { kind: "n", text: (entry) => format.octets(entry.octets), value: (entry) => entry.octets, title: about };
const packets = { kind: "n", text: (entry) => format.count(entry.packets), value: (entry) => entry.packets };
const named = (entry) => entry.service || (entry.port ? `${format.protocol(entry.protocol)}/${entry.port}` : `other ${format.protocol(entry.protocol)}`);

let most = {};
/** Several interfaces are metered: then each entry says whose it is. */
let several = false;
const at = (entry) => (several ? ` · ${entry.interface}` : "");
const share = (list) => (entry) => entry.octets / Math.max(1, most[list]);
const tables = {
  talkers: new Rows("t-talkers", (e) => `${e.interface} ${e.address}`, [
    { head: true, kind: "m", text: (e) => e.address + at(e), share: share("talkers"), title: (e) => `at ${e.interface}` },
    octets,
    packets,
  ]),
  services: new Rows("t-services", (e) => `${e.interface} ${e.protocol} ${e.port}`, [
    { head: true, text: (e) => named(e) + at(e), share: share("services"), title: (e) => `at ${e.interface}` },
    octets,
    packets,
  ]),
  conversations: new Rows("t-conversations", (e) => `${e.interface} ${e.src} ${e.dst} ${e.protocol} ${e.service}`, [
    { head: true, kind: "m", text: (e) => `${e.src} → ${e.dst}${at(e)}`, share: share("conversations"), title: (e) => `${e.service || format.protocol(e.protocol)} at ${e.interface}` },
    octets,
  ]),
};
const events = new Rows("t-events", (event) => event.id, [
  { kind: "w", text: (event) => format.clock(event.ts) },
  { text: (event) => event.severity },
  { kind: "w", text: (event) => event.kind.replaceAll("_", " ") },
  { head: true, kind: "t", text: (event) => event.message },
]);

export function update(page) {
  const { top } = page;
  const off = top.enabled ? "Nothing yet: a flow is here once its record was emitted." : "The analytics are switched off (analytics.enabled).";
  const interfaces = Object.keys(tables).flatMap((list) => (top[list] ?? []).map((entry) => entry.interface));
  several = new Set(interfaces).size > 1;
  for (const [list, table] of Object.entries(tables)) {
    const entries = top[list] ?? [];
    most[list] = Math.max(0, ...entries.map((entry) => entry.octets));
    table.update(entries, off);
  }
  write($("top-window"), top.enabled ? `last ${format.seconds(top.window_s)}, emitted records` : "");
  events.update(page.events.events ?? [], page.events.enabled ? "Nothing was noticed." : "The analytics are switched off (analytics.enabled).");
  write($("events-note"), page.events.learning ? "devices and listeners are only learned yet" : "");
}
