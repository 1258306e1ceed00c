// What became of every packet, with every reason there is, also those that did not occur.

import { $, make, Rows } from "./dom.js";
import * as format from "./format.js";

/** Stage, reason, meaning. */
const ENTRIES = [
  ["seen", "", "A hook was given the packet."],
  ["metered", "", "In a flow."],
  ["not_metered", "arp", "Not IP: ARP."],
  ["not_metered", "lldp", "Not IP: LLDP."],
  ["not_metered", "other", "Not IP: another ethertype."],
  ["not_metered", "truncated", "The link or IP header is not whole."],
  ["not_metered", "malformed", "IP version and lengths contradict each other."],
  ["not_metered", "unsupported", "More than four VLAN tags or eight MPLS labels."],
  ["not_metered", "filtered", "Left out by [filter]."],
  ["not_metered", "not_sampled", "Not in the sample of [sampling]."],
  ["not_metered", "own_traffic", "The agent's own connections to its store (exclude_own_traffic)."],
  ["lost", "ring_full", "The kernel tables were full: counted without addresses. Raise table_memory_mib or lower drain_interval_ms."],
  ["lost", "no_region", "On a CPU that was added after the start. Restart the agent."],
  ["lost", "no_interface", "On an interface that the agent did not configure. Please report it."],
  ["lost", "crash", "Was being drained when an agent was killed."],
  ["drained", "", "Taken over from the kernel."],
  ["recovered", "", "In the spool when this agent started."],
  ["acknowledged", "", "The store has it."],
  ["spooled", "", "In the spool for the next agent."],
  ["undelivered", "spool_full_oldest", "The spool was full, and this was the oldest. Raise spool.max_mib."],
  ["undelivered", "spool_full_newest", "The spool was full when it came. Raise spool.max_mib."],
  ["undelivered", "spool_error", "The disk of the spool failed, and its memory was full."],
  ["undelivered", "spool_corrupt", "A file of the spool is not what was written."],
  ["undelivered", "spool_torn", "A file of the spool ends too early: a host died while it was written."],
  ["undelivered", "undelivered", "In memory alone when the agent had to stop."],
  ["undelivered", "quarantined", "The store refuses the rows: flow-agent quarantine list."],
  ["undelivered", "uncertain", "In the quarantine, and some of it may be stored."],
  ["undelivered", "crash", "An agent that was killed had it in its cache or in a batch."],
  ["resent", "quarantined", "Was put aside, and somebody has sent it again."],
  ["resent", "uncertain", "Was put aside, and somebody has sent it again."],
  ["note", "fragment_without_ports", "A later fragment whose first was not seen: metered with ports 0."],
];
const HURTS = new Set(["lost", "undelivered"]);
const named = (text) => text.replaceAll("_", " ");

const table = new Rows("t-ledger", (entry) => `${entry.stage} ${entry.reason}`, [
  { head: true, kind: "w", text: (entry) => named(entry.stage) },
  { kind: "m", text: (entry) => entry.reason },
  { kind: "n", text: (entry) => format.whole(entry.packets), value: (entry) => entry.packets },
  { kind: "n", text: (entry) => format.octets(entry.octets), value: (entry) => entry.octets },
  { kind: "t", text: (entry) => entry.meaning },
]);
table.mark = (entry) => (entry.packets === 0 ? "zero" : HURTS.has(entry.stage) ? "hurt" : "");

export function update(page) {
  const books = page.ledger.total;
  const count = (stage, reason) => (reason ? books[stage]?.[reason] : books[stage]) ?? { packets: 0, octets: 0 };
  const known = new Set(ENTRIES.map(([stage, reason]) => `${stage} ${reason}`));
  const entries = ENTRIES.map(([stage, reason, meaning]) => ({ stage, reason, meaning, ...count(stage, reason) }));
  // What a later agent may have.
  for (const [stage, reasons] of Object.entries(books)) {
    if (typeof reasons.packets === "number") continue;
    for (const [reason, counted] of Object.entries(reasons)) {
      if (!known.has(`${stage} ${reason}`)) entries.push({ stage, reason, meaning: "", ...counted });
    }
  }
  table.update(entries);
  balance(books);
}

function balance(books) {
  const sum = (stage) => Object.values(books[stage] ?? {}).reduce((all, one) => all + one.packets, 0);
  const part = (name, packets) => [make("b", { textContent: format.whole(packets) }), ` ${name}`];
  const line = (...parts) => make("span", {}, ...parts.flat());
  const off = books.unaccounted.packets;
  $("balance").replaceChildren(
    line(part("seen", books.seen.packets), " = ", part("metered", books.metered.packets), " + ", part("not metered", sum("not_metered")), " + ", part("lost", sum("lost"))),
    line(part("in open flows and batches", books.in_flight.packets)),
    make("span", {
      className: `chip ${off === 0 ? "good" : "bad"}`,
      textContent: off === 0 ? "balances" : `${format.whole(off)} unaccounted`,
    }),
  );
}
