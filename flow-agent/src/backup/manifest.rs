//! The manifest: a small table in the backup that says how many rows each table
//! has and what their checksums add up to.

use super::{BackupError, one, table};
use crate::sink::{ClickHouse, SinkError, quoted};

/// The table's name; no table of the schema is called so.
pub const MANIFEST: &str = "backup_manifest";

/// What a table holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The table.
    pub table: String,
    /// How many rows.
    pub rows: u64,
    /// The sum of the checksums of all rows, of all stored columns.
    pub hash: u64,
}

impl Entry {
    /// What the table holds now.
    pub async fn of(client: &ClickHouse, database: &str, name: &str) -> Result<Self, SinkError> {
        let from = table(database, name);
        let sql = format!("SELECT count(), sum(cityHash64(*)) FROM {from}");
        let row = client.table(sql).await?.into_iter().flatten().collect::<Vec<_>>();
        Ok(Self::new(name, &row))
    }

    fn new(name: &str, numbers: &[String]) -> Self {
        let number = |at: usize| numbers.get(at).and_then(|n| n.parse().ok()).unwrap_or_default();
        Self { table: name.into(), rows: number(0), hash: number(1) }
    }
}

/// Writes the manifest into a database.
pub async fn write(
    client: &ClickHouse,
    database: &str,
    entries: &[Entry],
) -> Result<(), SinkError> {
    let manifest = table(database, MANIFEST);
    let create = format!(
        "CREATE TABLE {manifest} (table_name String, table_rows UInt64, table_hash UInt64, \
         agent_version String, engine_version String, created DateTime) \
         ENGINE = MergeTree ORDER BY table_name"
    );
    client.execute("write the manifest", &create).await?;
    let rows: Vec<_> = entries
        .iter()
        .map(|Entry { table, rows, hash }| format!("('{}', {rows}, {hash})", quoted(table)))
        .collect();
    let insert = format!(
        "INSERT INTO {manifest} SELECT t.1, t.2, t.3, '{}', version(), now() FROM \
         (SELECT arrayJoin(CAST([{}], 'Array(Tuple(String, UInt64, UInt64))')) AS t)",
        env!("CARGO_PKG_VERSION"),
        rows.join(", ")
    );
    client.execute("write the manifest", &insert).await
}

/// Reads the manifest that a restore has brought.
pub async fn read(
    client: &ClickHouse,
    database: &str,
    place: &impl ToString,
) -> Result<Vec<Entry>, BackupError> {
    let there = format!("EXISTS TABLE {}", table(database, MANIFEST));
    if one(client, there).await? != "1" {
        return Err(BackupError::NoManifest { place: place.to_string() });
    }
    let from = table(database, MANIFEST);
    let sql = format!("SELECT table_name, table_rows, table_hash FROM {from} ORDER BY table_name");
    let rows = client.table(sql).await?;
    Ok(rows.iter().map(|row| Entry::new(&row[0], &row[1..])).collect())
}
