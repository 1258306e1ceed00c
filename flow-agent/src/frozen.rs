//! A frozen batch: rows that are stored together or not at all.
//!
//! Nothing in it ever changes, so sending it again is harmless: its id is the deduplication token,
//! the query id and a column of its rows, and its octets are sent as they are.

use std::sync::Arc;

use bytes::Bytes;
use flow_common::Count;
use uuid::Uuid;

/// The table that a batch goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Flow records.
    Flows = 1,
    /// What the ledger counted.
    Ledger = 2,
    /// Buckets of latency histograms.
    Latency = 3,
}

impl Table {
    /// Its name in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flows => "flows",
            Self::Ledger => "ledger",
            Self::Latency => "latency",
        }
    }
}

/// Rows of one table and one partition, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenBatch {
    /// UUID version 7, also in the column `batch_id` of every row.
    pub id: Uuid,
    /// Where its rows go.
    pub table: Table,
    /// Unix seconds when it was frozen; partitions and TTLs derive from it.
    pub exported_at: u32,
    /// At least one.
    pub rows: u32,
    /// Packets and octets of its flows by interface name; none for other tables.
    pub counts: Vec<(Arc<str>, Count)>,
    /// One block in ClickHouse's `Native` format, uncompressed.
    pub block: Bytes,
}

impl FrozenBatch {
    /// The statement that its block follows. The engine finds columns by their names; those that
    /// the block lacks get their defaults.
    pub fn insert_sql(&self, database: &str) -> String {
        format!("INSERT INTO {database}.{} FORMAT Native", self.table.name())
    }
}
