//! The sections of what is metered and kept: filters, sampling, cache, memory, batches.

use super::{Key, Kind};

const PREFIXES: &str = "prefixes of IPv4 or IPv6, at most 65536 in both lists";
const PORTS: &str = "0 to 65535, or ranges: \"8000-8100\"";
const PROTOCOLS: &str = "0 to 255, or names: \"tcp\"";
const DAY: (i64, i64) = (1, 86_400);

pub const KEYS: &[Key] = &[
    Key::texts("filter.include", "[]", "Only packets from or to these addresses.")
        .allowing(PREFIXES)
        .shown("[\"10.0.0.0/8\", \"2001:db8::/32\"]")
        .live(),
    Key::texts("filter.exclude", "[]", "No packets from or to these; the longest prefix decides.")
        .allowing(PREFIXES)
        .shown("[\"10.1.0.0/16\"]")
        .live(),
    Key::new("filter.include_ports", Kind::Numbers, Some("[]"), "Only packets with such a port.")
        .allowing(PORTS)
        .shown("[443, \"8000-8100\"]")
        .live(),
    Key::new("filter.exclude_ports", Kind::Numbers, Some("[]"), "No packets with such a port.")
        .allowing(PORTS)
        .shown("[22]")
        .live(),
    Key::new("filter.include_protocols", Kind::Numbers, Some("[]"), "Only these protocols.")
        .allowing(PROTOCOLS)
        .shown("[\"tcp\", \"udp\", 47]")
        .live(),
    Key::new("filter.exclude_protocols", Kind::Numbers, Some("[]"), "Not these protocols.")
        .allowing(PROTOCOLS)
        .shown("[\"icmp\"]")
        .live(),
    Key::word(
        "sampling.mode",
        &["flow", "packet"],
        "",
        "Of what 1 in `rate` is taken: whole flows, or packets.",
    )
    .without_default("no sampling", "\"flow\"")
    .live(),
    Key::whole("sampling.rate", "", "", (1, 1 << 20), "1 in how many; needs `mode`, too.")
        .without_default("no sampling", "10")
        .live(),
    Key::switch(
        "cache.enabled",
        "true",
        "false: every drained record is stored by itself, for comparison.",
    ),
    Key::word(
        "cache.policy",
        &["lru", "fifo", "ttl"],
        "\"lru\"",
        "Who leaves first when there is no room.",
    ),
    Key::whole("cache.max_flows", "flows", "", (1, 1 << 30), "Open flows at one time.")
        .without_default("max_flows above the sections", "1000000"),
    Key::whole(
        "cache.max_memory_mib",
        "MiB",
        "",
        (1, 1 << 20),
        "Memory for open flows, at least 1 MiB for each shard.",
    )
    .without_default("what max_flows take", "512"),
    Key::whole("cache.ttl_s", "s", "", DAY, "A record is emitted at this age by the clock.")
        .without_default("none; with the policy ttl 60", "600"),
    Key::whole("cache.linger_s", "s", "2", (0, 86_400), "How long a flow lingers after its end."),
    Key::word(
        "cache.statistics",
        &["off", "counters", "full"],
        "\"counters\"",
        "How much is counted.",
    ),
    Key::whole(
        "cache.hot_flows",
        "flows",
        "20",
        (1, 256),
        "Flows with most packets that are told.",
    ),
    timeout("cache.tcp_idle_timeout_s", "15", "TCP without a packet for so long is emitted."),
    timeout("cache.tcp_active_timeout_s", "60", "TCP of this age is emitted."),
    timeout("cache.tcp_closing_idle_timeout_s", "15", "The same after one end has sent FIN."),
    timeout("cache.tcp_closing_active_timeout_s", "60", "The same after one end has sent FIN."),
    timeout("cache.udp_idle_timeout_s", "15", "The same for UDP and UDP-Lite."),
    timeout("cache.udp_active_timeout_s", "60", "The same for UDP and UDP-Lite."),
    timeout("cache.icmp_idle_timeout_s", "15", "The same for ICMP and ICMPv6."),
    timeout("cache.icmp_active_timeout_s", "60", "The same for ICMP and ICMPv6."),
    timeout("cache.other_idle_timeout_s", "15", "The same for other protocols."),
    timeout("cache.other_active_timeout_s", "60", "The same for other protocols."),
    Key::switch("memory.enabled", "true", "Make the cache smaller when memory is short."),
    Key::whole(
        "memory.shrink_above_percent",
        "%",
        "90",
        (2, 100),
        "Memory in use, of the limit, above which it shrinks.",
    ),
    Key::whole(
        "memory.regrow_below_percent",
        "%",
        "75",
        (1, 99),
        "Below this it may grow again; less than shrink_above_percent.",
    ),
    Key::whole(
        "memory.stall_percent",
        "%",
        "10",
        (1, 100),
        "It shrinks, too, while tasks waited for memory for this share of the last 10 s.",
    ),
    Key::whole(
        "memory.floor_flows",
        "flows",
        "10000",
        (1, 1 << 30),
        "Open flows that it is never made smaller than.",
    ),
    Key::whole(
        "batch.target_insert_ms",
        "ms",
        "100",
        (1, 60_000),
        "An insert should take about so long.",
    ),
    Key::whole(
        "batch.min_rows",
        "rows",
        "1000",
        (1, 1_048_448),
        "A batch is never frozen for its number of rows below this; at most max_rows.",
    ),
    Key::whole("batch.max_rows", "rows", "500000", (1, 1_048_448), "At this number it always is."),
    Key::whole(
        "batch.age_ms",
        "ms",
        "1000",
        (10, 60_000),
        "Whatever their number, rows wait no longer, and batches are so far apart where they are not \
         full; less up to a fifth. Fleets of many hosts do better with 5000.",
    ),
];

const fn timeout(name: &'static str, example: &'static str, doc: &'static str) -> Key {
    Key::whole(name, "s", "", DAY, doc)
        .without_default("idle_timeout_s or active_timeout_s above the sections", example)
}
