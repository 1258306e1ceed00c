//! What an attacker tries: secrets that might show somewhere, paths that might lead elsewhere,
//! and SQL in everything that reaches the store. Needs root, the agent's binary and libchdb.

mod paths;
mod secrets;
mod statements;
mod values;

use anyhow::{Result, ensure};
use flow_tests::store::Store;
use url::form_urlencoded::byte_serialize;

/// What is tried in place of a value.
const INJECTIONS: [&str; 12] = [
    "'; DROP TABLE flow.canary; --",
    "' OR 1=1 --",
    "\\'; TRUNCATE TABLE flow.canary; --",
    "\\\\'; DROP TABLE flow.canary; --",
    "1); DROP TABLE flow.canary; --",
    "1 UNION ALL SELECT name FROM flow.canary",
    "tcp,10.0.0.1:1,10.0.0.2:2'); DROP TABLE flow.canary; --",
    "tcp,10.0.0.1:1,10.0.0.2:2\0'; DROP TABLE flow.canary",
    "`; DROP TABLE flow.canary; --",
    "\"; DROP TABLE flow.canary; --",
    "{canary:String}",
    "flow.canary",
];

fn escaped(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}

/// A table that must outlive all that is tried.
fn canary(store: &Store) {
    store.sql("CREATE TABLE flow.canary (name String) ENGINE = MergeTree ORDER BY name");
    store.sql("INSERT INTO flow.canary VALUES ('yellow')");
}

/// It is as it was.
fn sings(store: &Store) -> Result<()> {
    let rows = store.sql("SELECT name FROM flow.canary");
    ensure!(rows == "yellow", "the canary: {rows}");
    Ok(())
}
