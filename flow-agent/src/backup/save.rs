//! Makes a backup: enters a database, leaves its tables and views at a place.
//!
//! Each table is first cloned into a snapshot: its parts are linked, not copied,
//! so all tables together take milliseconds, and nothing inserted, merged or
//! expired afterwards changes it. Counted, checksummed and saved is the snapshot.

use super::manifest::{self, Entry, MANIFEST};
use super::watch::watch;
use super::{BackupError, Place, exists, name, table};
use crate::sink::{ClickHouse, SinkError, quoted};

/// What was saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saved {
    /// Tables with data.
    pub tables: usize,
    /// Their rows.
    pub rows: u64,
}

struct Found {
    tables: Vec<String>,
    views: Vec<String>,
}

/// Saves the database of `client` at `place`.
///
/// # Errors
/// The place is taken, there is nothing to save, or the store refuses; then no
/// snapshot is left, unless the store is away.
pub async fn save(client: &ClickHouse, place: &Place) -> Result<Saved, BackupError> {
    place.check_free()?;
    let database = client.address().database.clone();
    let found = find(client, &database).await?;
    let snapshot = format!("{database}_backup");
    if exists(client, &snapshot).await? {
        return Err(BackupError::Busy { snapshot });
    }
    let saved = take(client, &database, &snapshot, &found, place).await;
    let drop = format!("DROP DATABASE IF EXISTS {} SYNC", name(&snapshot));
    let dropped = client.execute("remove its snapshot", &drop).await;
    let saved = saved?;
    dropped?;
    Ok(saved)
}

async fn find(client: &ClickHouse, database: &str) -> Result<Found, BackupError> {
    let sql = format!(
        "SELECT name, engine FROM system.tables WHERE database = '{}' AND NOT is_temporary \
         ORDER BY name",
        quoted(database)
    );
    let mut found = Found { tables: Vec::new(), views: Vec::new() };
    for row in client.table(sql).await? {
        let [table, engine] = &row[..] else { continue };
        if engine.starts_with("Replicated") || engine == "Distributed" {
            return Err(BackupError::Clustered { table: table.clone(), engine: engine.clone() });
        }
        if engine.ends_with("MergeTree") {
            found.tables.push(table.clone());
        } else {
            found.views.push(table.clone());
        }
    }
    if found.tables.is_empty() {
        let address = client.address().url.clone();
        return Err(BackupError::Nothing { database: database.into(), address });
    }
    Ok(found)
}

async fn take(
    client: &ClickHouse,
    database: &str,
    snapshot: &str,
    found: &Found,
    place: &Place,
) -> Result<Saved, SinkError> {
    let run = async |sql: String| client.execute("take a snapshot", &sql).await;
    run(format!("CREATE DATABASE {}", name(snapshot))).await?;
    for table_name in &found.tables {
        let (to, from) = (table(snapshot, table_name), table(database, table_name));
        run(format!("CREATE TABLE {to} AS {from}")).await?;
        // A merge would drop what has expired, and fold rows of rollups.
        run(format!("SYSTEM STOP MERGES {to}")).await?;
    }
    // Nothing else between these: the tables are as they were at nearly one moment.
    for table_name in &found.tables {
        let (to, from) = (table(snapshot, table_name), table(database, table_name));
        run(format!("ALTER TABLE {to} ATTACH PARTITION ALL FROM {from}")).await?;
    }
    let mut entries = Vec::with_capacity(found.tables.len());
    for table_name in &found.tables {
        entries.push(Entry::of(client, snapshot, table_name).await?);
    }
    manifest::write(client, snapshot, &entries).await?;
    let what: Vec<_> = found
        .tables
        .iter()
        .map(String::as_str)
        .chain([MANIFEST])
        .map(|name| format!("TABLE {} AS {}", table(snapshot, name), table(database, name)))
        .chain(found.views.iter().map(|name| format!("VIEW {}", table(database, name))))
        .collect();
    let sql = format!("BACKUP {} TO {}", what.join(", "), place.sql());
    watch(client, "saving", client.execute("make a backup", &sql)).await?;
    Ok(Saved { tables: entries.len(), rows: entries.iter().map(|entry| entry.rows).sum() })
}
