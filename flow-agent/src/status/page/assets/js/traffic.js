// Live throughput by direction: the series that the agent keeps, and the tiles above it.

import { InOut } from "./charts.js";
import { $, set } from "./dom.js";
import * as format from "./format.js";

/** Seconds that are shown. */
const SPAN = 900;
/** A pause in the samples that is longer than this many of them is a gap in the line. */
const GAP = 3;

const charts = {
  bits: new InOut("bits-chart", "bits-legend", format.bits, "Bits a second"),
  packets: new InOut("packets-chart", "packets-legend", format.packets, "Packets a second", (value) => `${format.count(value)}/s`),
};
let samples = [];
let started = null;

/** Unix ms from which on samples are asked for. */
export function since() {
  return samples.at(-1)?.[0] ?? 0;
}

export function update(page) {
  if (page.status.started !== started) {
    // Another agent: its series is another one.
    started = page.status.started;
    samples = [];
  }
  const last = since();
  const news = page.traffic.samples.filter(([end]) => end > last);
  samples.push(...news);
  const from = (samples.at(-1)?.[0] ?? 0) - SPAN * 1000;
  samples = samples.filter(([end]) => end > from);
  tiles(page);
  if (news.length > 0) draw();
}

function draw() {
  const bits = [[], [], []];
  const packets = [[], [], []];
  let before = null;
  for (const [end, span, inPackets, inOctets, outPackets, outOctets] of samples) {
    if (before !== null && end - span - before > GAP * span) {
      for (const data of [bits, packets]) {
        data[0].push((before + 1) / 1000);
        data[1].push(null);
        data[2].push(null);
      }
    }
    before = end;
    const seconds = span / 1000;
    for (const [data, received, sent] of [[bits, inOctets, outOctets], [packets, inPackets, outPackets]]) {
      data[0].push(end / 1000);
      data[1].push(received / seconds);
      data[2].push(sent / seconds);
    }
  }
  charts.bits.update(bits);
  charts.packets.update(packets);
}

function tiles(page) {
  const [, span = 0, inPackets = 0, inOctets = 0, outPackets = 0, outOctets = 0] = samples.at(-1) ?? [];
  const rate = (count) => (span > 0 ? count / (span / 1000) : 0);
  set("rx-bits", format.bits(rate(inOctets)), page.traffic.received.octets);
  set("rx-packets", format.packets(rate(inPackets)), page.traffic.received.packets);
  set("tx-bits", format.bits(rate(outOctets)), page.traffic.sent.octets);
  set("tx-packets", format.packets(rate(outPackets)), page.traffic.sent.packets);
  const { packets, cache, spool } = page.status;
  set("flows-open", format.count(cache.flows), cache.flows);
  set("flows-max", format.count(cache.max_flows), cache.max_flows);
  set("hit-ratio", format.percent(cache.hit_ratio), cache.hit_ratio ?? "");
  set("cache-bytes", format.octets(cache.bytes), cache.bytes);
  const insert = page.latency.stages.insert;
  set("insert-p99", format.duration(insert.p99), insert.p99 ?? "");
  set("insert-p50", format.duration(insert.p50), insert.p50 ?? "");
  kernel(page.status.programs);
  const rows = (spool?.rows ?? 0) + page.status.waiting.open_records;
  set("spool-rows", format.count(rows), rows);
  set("spool-age", format.seconds(spool?.oldest_age_s ?? 0), spool?.oldest_age_s ?? 0);
  const lost = packets.lost + packets.undelivered;
  set("lost", format.count(lost), lost);
  set("seen", format.count(packets.seen), packets.seen);
  $("tile-lost").className = lost > 0 ? "bad" : "good";
}

/** What the programs cost in the kernel, if it counts that. */
function kernel(programs) {
  const counted = programs.counted_for !== null;
  $("tile-kernel").title = programs.switch_on ?? "Mean time of a run of the agent's programs; a super-packet is one run";
  set("kernel-ns", counted ? format.duration(programs.ns_per_run) : "off", programs.ns_per_run ?? "");
  const share = programs.cpu_share;
  set("kernel-share", counted ? `${format.percent(share)} of a CPU` : programs.switch_on, share ?? "");
}
