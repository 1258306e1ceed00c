//! What a store has of the flows, in all: in the table and in each of its rollups.
//!
//! What must hold after any fault: no row is there twice, and each rollup has the packets and
//! octets of the table.

use anyhow::{Context, Result, ensure};

use crate::sql;

/// Columns that are sums wherever they are.
const SUMMED: [&str; 4] = ["packets", "bytes", "reverse_packets", "reverse_bytes"];

/// Sums over a whole table, in the order of its columns `packets`, `bytes`, `reverse_packets`,
/// `reverse_bytes`.
pub type Sums = [u64; 4];

/// The rows of `flow.flows`.
pub fn rows(url: &str) -> Result<u64> {
    sql::number(url, "SELECT count() FROM flow.flows")
}

/// The sums of a table of the database `flow`.
pub fn sums(url: &str, table: &str) -> Result<Sums> {
    let sums = SUMMED.map(|column| format!("sum({column})")).join(", ");
    let answer = sql::rows(url, &format!("SELECT {sums} FROM flow.{table}"))?;
    let numbers: Vec<u64> = answer.iter().flatten().filter_map(|text| text.parse().ok()).collect();
    numbers.try_into().ok().with_context(|| format!("{table} has no sums: {answer:?}"))
}

/// The tables that hold sums of flows.
pub fn rollups(url: &str) -> Result<Vec<String>> {
    let columns = SUMMED.map(|column| format!("'{column}'")).join(", ");
    let answer = sql::text(
        url,
        &format!(
            "SELECT table FROM system.columns WHERE database = 'flow' AND name IN ({columns}) \
             AND table != 'flows' AND table IN \
             (SELECT name FROM system.tables WHERE database = 'flow' AND engine LIKE '%MergeTree') \
             GROUP BY table HAVING count() = {} ORDER BY table",
            SUMMED.len()
        ),
    )?;
    Ok(answer.lines().map(str::to_owned).collect())
}

/// An error if a row is there twice or a rollup differs from the table; returns the table's sums.
pub fn agreed(url: &str) -> Result<Sums> {
    let rows = rows(url)?;
    // Hashes of 16 octets, part by part: millions of rows would not fit the store's memory. What is
    // there twice is so with its batch.
    let parts = 1 + rows / 2_000_000;
    let mut different = 0;
    for part in 0..parts {
        different += sql::number(
            url,
            &format!(
                "SELECT uniqExact(sipHash128(tuple(*))) FROM flow.flows \
                 WHERE cityHash64(batch_id) % {parts} = {part}"
            ),
        )?;
    }
    ensure!(rows == different, "{rows} rows, of which {different} differ: some are there twice");
    let flows = sums(url, "flows")?;
    for rollup in rollups(url)? {
        let summed = sums(url, &rollup)?;
        ensure!(summed == flows, "{rollup} has {summed:?}, flows has {flows:?} ({SUMMED:?})");
    }
    Ok(flows)
}
