//! Profiles: sets of values for a kind of host, below everything that is said by itself.

use toml::Value;

use super::environment::toml_value;
use super::layers::Given;

/// The names.
pub const NAMES: [&str; 4] = ["small", "default", "large", "debug"];

/// What a profile says, as TOML; `default` says nothing.
pub fn values(name: &str) -> &'static [(&'static str, &'static str)] {
    match name {
        "small" => SMALL,
        "large" => LARGE,
        "debug" => DEBUG,
        _ => &[],
    }
}

/// What a profile is for and what it costs, for the documentation.
pub fn about(name: &str) -> &'static str {
    match name {
        "small" => {
            "Small virtual machines, edge boxes: one cache thread, 50,000 open flows (some 11 MB), \
             32 MiB of kernel tables, a spool of 512 MiB. Costs: more than 50,000 flows at one \
             time are emitted early (more rows), and a store that is away is bridged for less long."
        }
        "large" => {
            "Busy servers, routers: 5,000,000 open flows (some 1.1 GB when they are there), 1 GiB \
             of kernel tables, batches of up to 1,000,000 rows that wait for 5 s, a spool of 64 \
             GiB. Costs: that memory and disk, and rows are in the store some seconds later."
        }
        "debug" => {
            "Looking for a fault: everything is logged without a limit, the cache measures its \
             latencies, rows are stored within some 0.2 s, every batch is synced. Costs: CPU, \
             disk and five times as many inserts; for one host and for an hour."
        }
        _ => "What this page gives as defaults: servers with up to some 100,000 flows at one time.",
    }
}

const SMALL: &[(&str, &str)] = &[
    ("table_memory_mib", "32"),
    ("shards", "1"),
    ("max_flows", "50000"),
    ("batch.max_rows", "50000"),
    ("spool.max_mib", "512"),
    ("spool.memory_mib", "16"),
    ("spool.segment_mib", "4"),
    ("memory.floor_flows", "1000"),
    ("enrich.units_entries", "4096"),
    ("enrich.geoip_entries", "4096"),
    ("enrich.host_names_entries", "4096"),
    ("log.repeat_limit", "5"),
];

const LARGE: &[(&str, &str)] = &[
    ("table_memory_mib", "1024"),
    ("max_flows", "5000000"),
    ("memory.floor_flows", "100000"),
    ("batch.target_insert_ms", "500"),
    ("batch.max_rows", "1000000"),
    ("batch.age_ms", "5000"),
    ("delivery.in_flight", "4"),
    ("spool.max_mib", "65536"),
    ("spool.memory_mib", "512"),
    ("spool.segment_mib", "64"),
    ("enrich.units_entries", "262144"),
    ("enrich.geoip_entries", "1048576"),
    ("enrich.host_names_entries", "262144"),
];

const DEBUG: &[(&str, &str)] = &[
    ("log.level", "\"debug\""),
    ("log.repeat_limit", "0"),
    ("drain_interval_ms", "200"),
    ("cache.statistics", "\"full\""),
    ("batch.age_ms", "200"),
    ("spool.fsync", "\"always\""),
];

/// What a profile gives.
pub fn given(name: &str) -> Vec<Given> {
    let given = values(name).iter().map(|(key, value)| Given {
        key: (*key).into(),
        // A test reads all of them.
        value: toml_value(value).unwrap_or(Value::Boolean(false)),
        place: format!("profile {name}: {key}"),
        origin: format!("profile {name}"),
    });
    given.collect()
}
