//! The sections of delivery and operation: logs, status, delivery, spool, state, retention.

use super::{Key, Kind};

const YEAR_S: i64 = 31_536_000;

pub const KEYS: &[Key] = &[
    Key::word(
        "log.format",
        &["auto", "text", "json", "journald"],
        "\"auto\"",
        "text: a line each; json: an object each, for collectors; journald: fields for the \
         journal; auto: journald if the standard error is the journal, else text.",
    )
    .live(),
    Key::text(
        "log.level",
        "\"info\"",
        "How much is said, by module if need be. RUST_LOG wins over it.",
    )
    .allowing("off, error, warn, info, debug, trace, or MODULE=LEVEL, with commas")
    .live(),
    Key::whole(
        "log.repeat_limit",
        "lines",
        "20",
        (0, 100_000),
        "The same message at most so often in an interval; what is left out is counted and told. \
         0: no limit.",
    )
    .live(),
    Key::whole("log.repeat_interval_s", "s", "60", (1, 3600), "The interval.").live(),
    Key::word(
        "run.capabilities",
        &["auto", "drop", "keep"],
        "\"auto\"",
        "Whether capabilities are kept once everything is attached; auto: as few as the \
         interfaces allow.",
    ),
    Key::switch(
        "run.kernel_statistics",
        "false",
        "Have the kernel count runs and time of all eBPF programs of this host while the agent \
         runs; needs CAP_SYS_ADMIN. Without it, or on many hosts: sysctl \
         kernel.bpf_stats_enabled=1.",
    ),
    Key::text(
        "status.listen",
        "\"127.0.0.1:9469\"",
        "Where it is served. While the default address is in use the agent warns and goes on \
         without, but what is said here must be free.",
    )
    .allowing("IP:PORT of this host, or \"\" for nowhere; beyond loopback with token and TLS"),
    Key::text(
        "status.token_file",
        "",
        "File with the token that requests must have (Authorization: Bearer), one line, readable \
         by its owner alone; or a systemd credential.",
    )
    .without_default("no token", "\"credential:status-token\"")
    .allowing("a path, or credential:NAME"),
    Key::text("status.tls_cert_file", "", "The agent's certificate for https; needs its key, too.")
        .without_default("no TLS", "\"/etc/flow-agent/status.pem\"")
        .allowing("the path of a file in PEM"),
    Key::text("status.tls_key_file", "", "Its key.")
        .without_default("no TLS", "\"/etc/flow-agent/status.key\"")
        .allowing("the path of a file in PEM"),
    Key::whole(
        "status.requests_per_second",
        "",
        "200",
        (1, 1_000_000),
        "Requests of one client in the long run; more are answered with 429.",
    ),
    Key::whole(
        "status.max_connections",
        "",
        "256",
        (1, 65_536),
        "Connections at one time; more are closed.",
    ),
    Key::switch(
        "status.pprof",
        "false",
        "Profiles of the agent may be asked for at /debug/pprof (status.md).",
    ),
    Key::text("delivery.user", "", "User of the store.")
        .without_default("that of the URL, or the server's default one", "\"flows\"")
        .allowing("a name without control characters"),
    Key::text(
        "delivery.password_file",
        "",
        "File with the password, one line, readable by its owner alone; or a systemd credential \
         (LoadCredential=NAME:...).",
    )
    .without_default("no password", "\"credential:clickhouse\"")
    .allowing("a path, or credential:NAME"),
    Key::text("delivery.ca_file", "", "Authorities that are trusted for https.")
        .without_default("the system's", "\"/etc/flow-agent/ca.pem\"")
        .allowing("the path of a file in PEM"),
    Key::text("delivery.client_cert_file", "", "The agent's own certificate; needs its key, too.")
        .without_default("none", "\"/etc/flow-agent/client.pem\"")
        .allowing("the path of a file in PEM"),
    Key::text("delivery.client_key_file", "", "Its key.")
        .without_default("none", "\"/etc/flow-agent/client.key\"")
        .allowing("the path of a file in PEM"),
    Key::whole(
        "delivery.connect_timeout_ms",
        "ms",
        "3000",
        (10, 60_000),
        "For TCP and TLS together, and each address of a name.",
    ),
    Key::whole(
        "delivery.read_timeout_s",
        "s",
        "10",
        (1, 3600),
        "An answer to a question may take this long, and the server may take no octets of an \
         insert for this long.",
    ),
    Key::whole(
        "delivery.insert_timeout_s",
        "s",
        "60",
        (1, 3600),
        "A whole insert may take so long.",
    ),
    Key::word(
        "delivery.placement",
        &["consistent", "round_robin"],
        "\"consistent\"",
        "Which shard gets a batch: the same for an exporter, or by turns.",
    ),
    Key::word(
        "delivery.compression",
        &["none", "lz4", "zstd"],
        "",
        "What inserts are compressed with.",
    )
    .without_default("none to servers on this host, lz4 to others", "\"lz4\""),
    Key::whole("delivery.in_flight", "inserts", "2", (1, 16), "Inserts under way at once."),
    Key::whole(
        "delivery.stop_timeout_s",
        "s",
        "30",
        (1, 3600),
        "A stopping agent waits so long for the store to take what is left; a store that takes no \
         batch for 15 s gets no more of them if they can stay in a spool on disk.",
    ),
    Key::text(
        "delivery.quarantine_dir",
        "\"/var/lib/flow-agent/quarantine\"",
        "Where rows are kept that the store refuses; made when it is needed.",
    )
    .allowing("an absolute path"),
    Key::text("spool.dir", "\"/var/lib/flow-agent/spool\"", "A folder for this agent alone.")
        .allowing("an absolute path, or \"\" to hold batches in memory only"),
    Key::whole(
        "spool.max_mib",
        "MiB",
        "4096",
        (2, 1 << 24),
        "All its files; at least 2 * segment_mib.",
    ),
    Key::whole(
        "spool.memory_mib",
        "MiB",
        "64",
        (1, 65_536),
        "Batches that are held in memory, beside the disk or instead of it.",
    ),
    Key::word(
        "spool.full",
        &["drop_oldest", "drop_newest", "block"],
        "\"drop_oldest\"",
        "What happens when there is no room.",
    ),
    Key::word(
        "spool.fsync",
        &["always", "interval", "never"],
        "\"interval\"",
        "When files are synced: each batch, each second, or when the system does.",
    ),
    Key::whole(
        "spool.segment_mib",
        "MiB",
        "16",
        (1, 1024),
        "A file that has reached this is not written to any more.",
    ),
    Key::text("state.file", "\"/var/lib/flow-agent/state\"", "Where it is kept.")
        .allowing("an absolute path, or \"\" for nothing"),
    Key::whole("state.interval_s", "s", "60", (1, 86_400), "Time between two savings."),
    Key::whole("state.max_age_s", "s", "86400", (1, YEAR_S), "An older file is not used any more."),
    days("retention.flows_days", "15", "Rows of `flows`."),
    days("retention.flows_1m_days", "90", "Rows of `flows_1m`; at least flows_days."),
    days("retention.flows_1h_days", "400", "Rows of `flows_1h`; at least flows_days."),
];

const fn days(name: &'static str, example: &'static str, doc: &'static str) -> Key {
    let key = Key::new(name, Kind::Whole { least: 2, most: 3650 }, None, doc);
    Key { unit: "days", otherwise: "as the tables have it; new ones as here", example, ..key }
}
