// The stages that packets pass, each with what fills it: kernel tables, cache, delivery, spool.

import { $, make, Rows, write } from "./dom.js";
import * as format from "./format.js";

const known = new Map();

/** A card with a gauge, if `share` is a number, and lines of name, text and exact value. */
function card(id, title, share, lines) {
  let box = known.get(id);
  if (!box) {
    const gauge = make("div", { className: "gauge" }, make("i"));
    gauge.setAttribute("role", "meter");
    gauge.setAttribute("aria-label", `${title}: in use`);
    gauge.setAttribute("aria-valuemin", "0");
    gauge.setAttribute("aria-valuemax", "100");
    box = { gauge, list: make("dl"), lines: new Map() };
    const panel = make("section", { className: "panel card" }, make("h3", { textContent: title }), gauge, box.list);
    panel.id = `card-${id}`;
    panel.setAttribute("aria-label", title);
    $("cards").append(panel);
    known.set(id, box);
  }
  box.gauge.hidden = share === null;
  if (share !== null) {
    const part = Math.min(100, Math.max(0, share * 100));
    box.gauge.firstChild.style.width = `${part.toFixed(1)}%`;
    box.gauge.setAttribute("aria-valuenow", part.toFixed(1));
    box.gauge.className = `gauge ${part > 90 ? "bad" : part > 70 ? "warn" : ""}`;
  }
  for (const [name, text, value] of lines) {
    let line = box.lines.get(name);
    if (!line) {
      line = make("data");
      box.list.append(make("dt", { textContent: name }), make("dd", {}, line));
      box.lines.set(name, line);
    }
    write(line, text, value ?? "");
  }
}

const interfaces = new Rows("t-interfaces", (entry) => `${entry.name} ${entry.number ?? "refused"}`, [
  { head: true, text: (entry) => entry.name },
  { text: (entry) => entry.why ?? entry.ingress },
  { kind: "n", text: (entry) => format.count(entry.seen?.packets), value: (entry) => entry.seen?.packets ?? "" },
  { kind: "n", text: (entry) => format.count(entry.metered?.packets), value: (entry) => entry.metered?.packets ?? "" },
  { kind: "n", text: (entry) => format.octets(entry.metered?.octets), value: (entry) => entry.metered?.octets ?? "" },
]);
const endpoints = new Rows("t-endpoints", (entry) => entry.url, [
  { head: true, kind: "m", text: (entry) => entry.url, title: (entry) => entry.last_error ?? "" },
  { text: (entry) => entry.state + (entry.home ? " · home" : "") },
  { kind: "n", text: (entry) => format.whole(entry.failures), value: (entry) => entry.failures },
]);

/** From `/api/v1/interfaces`. */
export function updateInterfaces(page) {
  interfaces.update([...page.metered, ...page.refused], "No interface is metered.");
}

export function update(page) {
  const { status, cache, spool } = page;
  const { tables, drains, delivery, memory } = status;
  card("tables", "Kernel tables", tables.fill, [
    ["Fullest CPU", format.percent(tables.fill), tables.fill],
    ["Places", `${format.count(tables.flows_per_cpu)} flows × ${tables.cpus} CPUs`, tables.flows_per_cpu],
    ["Memory", format.octets(tables.bytes), tables.bytes],
    ["Left full sets", format.whole(tables.evicted_flows), tables.evicted_flows],
  ]);
  const drain = page.latency.stages.drain;
  card("drain", "Drain", null, [
    ["Drains", format.whole(drains.count), drains.count],
    ["Every", format.duration(drains.interval_ms * 1e6), drains.interval_ms],
    ["Before their time", format.whole(drains.early), drains.early],
    ["Failed", format.whole(drains.failed), drains.failed],
    ["Takes (p99)", format.duration(drain.p99), drain.p99],
  ]);
  const per = (name) => cache.per_second[name]["1m"];
  card("cache", "Flow cache", cache.flows / Math.max(1, cache.max_flows), [
    ["Flows", `${format.count(cache.flows)} of ${format.count(cache.max_flows)}`, cache.flows],
    ["Memory", format.octets(cache.bytes), cache.bytes],
    ["Hit ratio", format.percent(cache.hit_ratio), cache.hit_ratio],
    ["Hits, 1 min", `${format.count(per("hits"))}/s`, per("hits")],
    ["Misses, 1 min", `${format.count(per("misses"))}/s`, per("misses")],
    ["Made room", format.whole(evicted(cache.counts)), evicted(cache.counts)],
  ]);
  card("delivery", "Delivery", null, [
    ["Stored rows", format.count(delivery.acknowledged_rows), delivery.acknowledged_rows],
    ["Stored batches", format.count(delivery.acknowledged_batches), delivery.acknowledged_batches],
    ["Under way", format.whole(delivery.in_flight), delivery.in_flight],
    ["Last stored", `${format.seconds(delivery.since_acknowledged_s)} ago`, delivery.since_acknowledged_s],
    ["Tried again", format.whole(sum(delivery.retries)), sum(delivery.retries)],
    ["Quarantined rows", format.whole(delivery.quarantined_rows), delivery.quarantined_rows],
  ]);
  const used = spool.enabled ? Math.max(spool.disk_bytes / Math.max(1, spool.max_bytes), spool.memory_bytes / Math.max(1, spool.max_memory_bytes)) : null;
  card("spool", "Spool", used, spool.enabled ? [
    ["Batches", format.whole(spool.batches), spool.batches],
    ["Rows", format.count(spool.rows), spool.rows],
    ["On disk", spool.dir ? `${format.octets(spool.disk_bytes)} of ${format.octets(spool.max_bytes)}` : "no folder", spool.disk_bytes],
    ["In memory", `${format.octets(spool.memory_bytes)} of ${format.octets(spool.max_memory_bytes)}`, spool.memory_bytes],
    ["Oldest", spool.oldest_age_s === null ? "none" : format.seconds(spool.oldest_age_s), spool.oldest_age_s],
    ["When full", spool.full.replaceAll("_", " ")],
  ] : [["State", "none"]]);
  const share = memory.enabled && memory.limit_bytes ? memory.used_bytes / memory.limit_bytes : null;
  card("memory", "Memory", share, memory.enabled ? [
    ["Used", format.octets(memory.used_bytes), memory.used_bytes],
    ["There is", format.octets(memory.limit_bytes), memory.limit_bytes],
    ["Of", memory.source ?? "–"],
    ["Stalled, 10 s", format.percent((memory.stall_percent ?? 0) / 100), memory.stall_percent],
    ["Cache shrunk", `${format.whole(memory.shrinks)} times`, memory.shrinks],
  ] : [["Watched", "no"]]);
  endpoints.update(status.endpoints, "No server is configured.");
}

const sum = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);
const evicted = (counts) =>
  Object.entries(counts).filter(([name]) => name.startsWith("evicted")).reduce((a, [, b]) => a + b, 0);
