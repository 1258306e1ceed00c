//! The keys above the sections.

use super::{Key, Kind};

pub const KEYS: &[Key] = &[
    Key::word(
        "profile",
        &["small", "default", "large", "debug"],
        "\"default\"",
        "A set of values for a kind of host; every key that is said wins over it. See \"Profiles\".",
    ),
    Key::texts(
        "interfaces",
        "",
        "Interfaces to meter; NETNS is a name of `ip netns`, or pid:NUMBER for the namespace of a \
         process.",
    )
    .without_default("all hardware interfaces", "[\"eth0\", \"blue/veth*:tc\", \"pid:4711/eth0\"]")
    .allowing("[NETNS/]NAME[:MODE], globs (* and ?) allowed")
    .live(),
    Key::texts(
        "exclude_interfaces",
        "[]",
        "Interfaces to leave out, whatever the line above says.",
    )
    .allowing("[NETNS/]NAME, globs (* and ?) allowed")
    .live(),
    Key::word(
        "attach",
        &["auto", "xdp", "xdp-generic", "tc"],
        "\"auto\"",
        "How incoming packets are metered. See \"Attach modes\".",
    )
    .live(),
    Key::new(
        "store",
        Kind::TextOrTexts,
        Some("\"embedded:/var/lib/flow-agent/store\""),
        "Where rows go: replicas with commas; a list has one text for each shard. Port 8123, with \
         https 8443; database flow. See \"Servers of the store\".",
    )
    .allowing("embedded:DIR, or http[s]://[USER:PASSWORD@]HOST[:PORT][/DATABASE]"),
    Key::text("exporter", "", "This host's name in the rows.")
        .without_default("the host name", "\"web-17\"")
        .allowing("a name without control characters"),
    Key::switch(
        "decapsulate",
        "false",
        "Meter packets in VXLAN, GENEVE, GRE, IPIP and GTP-U tunnels as what the tunnels carry \
         (schema.md, \"Tunnels\"). At TC it costs TCP senders throughput: headers are made \
         readable further into each packet.",
    ),
    Key::whole(
        "drain_interval_ms",
        "ms",
        "1000",
        (10, 60_000),
        "Time between two drains of the kernel tables.",
    ),
    Key::whole(
        "table_memory_mib",
        "MiB",
        "",
        (1, 65_536),
        "Kernel memory for the flow tables, shared by all CPUs and both generations; what is said \
         here is never exceeded.",
    )
    .without_default("128, or more on hosts with very many CPUs or interfaces", "128"),
    Key::text(
        "pin_dir",
        "\"/sys/fs/bpf/flow-agent\"",
        "Where the tables are kept for the next agent should this one be killed.",
    )
    .allowing("a folder in a BPF file system, or \"\" for none"),
    Key::whole("shards", "threads", "", (1, 1024), "Cache threads.")
        .without_default("one for each CPU, at most 64", "2"),
    Key::whole(
        "max_flows",
        "flows",
        "1000000",
        (1, 1 << 30),
        "Open flows in the cache. cache.max_flows is the same, and comes first.",
    ),
    Key::whole(
        "idle_timeout_s",
        "s",
        "15",
        (1, 86_400),
        "A flow is emitted after this long without a packet.",
    ),
    Key::whole(
        "active_timeout_s",
        "s",
        "60",
        (1, 86_400),
        "A flow is emitted at this age, and goes on in the next record. Below the idle timeout it \
         is allowed and warned of.",
    ),
    Key::switch(
        "exclude_own_traffic",
        "true",
        "Leave out the agent's own connections to the store.",
    )
    .live(),
    Key::switch(
        "reload_on_change",
        "true",
        "Read this file again when it has changed, as at SIGHUP. See \"Changing it while it runs\".",
    ),
];
