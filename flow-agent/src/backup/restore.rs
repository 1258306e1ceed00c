//! Brings a backup back: enters a place, leaves a database whose every table
//! was compared with the manifest. What must hold: rows that are there are never
//! mixed with the backup's, and are removed only when that was asked for and the
//! backup could be opened.

use super::manifest::{self, Entry, MANIFEST};
use super::watch::watch;
use super::{BackupError, Place, exists, name, table};
use crate::sink::{ClickHouse, SinkError, quoted};

/// What was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Tables with data.
    pub tables: usize,
    /// Their rows.
    pub rows: u64,
}

/// Restores the backup at `place` into the database of `client`; `replace` removes what
/// is there first.
///
/// # Errors
/// The database has rows, the backup cannot be read, or what came back is not what was saved.
pub async fn restore(
    client: &ClickHouse,
    place: &Place,
    replace: bool,
) -> Result<Restored, BackupError> {
    let database = &client.address().database;
    let full = with_rows(client, database).await?;
    if !full.is_empty() && !replace {
        let (database, address) = (database.clone(), client.address().url.clone());
        return Err(BackupError::NotEmpty { database, address, tables: full.join(", ") });
    }
    let run = async |sql: String| client.execute("restore the backup", &sql).await;
    // The tables without their rows, beside what is there: so it is known to be a backup.
    let trial = format!("{database}_restore");
    let drop = |database: &str| format!("DROP DATABASE IF EXISTS {} SYNC", name(database));
    let create = |database: &str| format!("CREATE DATABASE {}", name(database));
    if exists(client, &trial).await? {
        return Err(BackupError::Busy { snapshot: trial });
    }
    run(create(&trial)).await?;
    let sql = restore_sql(database, &trial, place, "structure_only = 1");
    let opened = match run(sql).await {
        Ok(()) => manifest::read(client, &trial, place).await.map(|_empty| ()),
        Err(error) => Err(explained(error, place)),
    };
    let dropped = run(drop(&trial)).await;
    opened?;
    dropped?;

    run(drop(database)).await?;
    run(create(database)).await?;
    run(restore_sql(database, database, place, "structure_only = 1")).await?;
    let sql = format!(
        "SELECT name FROM system.tables WHERE database = '{}' AND engine LIKE '%MergeTree'",
        quoted(database)
    );
    let tables: Vec<_> = client.table(sql).await?.into_iter().flatten().collect();
    for name in &tables {
        // A merge would drop what has expired since, before it is compared.
        run(format!("SYSTEM STOP MERGES {}", table(database, name))).await?;
    }
    let sql = restore_sql(database, database, place, "structure_only = 0");
    watch(client, "restoring", client.execute("restore the backup", &sql)).await?;
    let entries = manifest::read(client, database, place).await?;
    for entry in &entries {
        let found = Entry::of(client, database, &entry.table).await?;
        if found != *entry {
            let Entry { table, rows, hash } = entry.clone();
            let (found_rows, found_hash) = (found.rows, found.hash);
            return Err(BackupError::Differs { table, rows, hash, found_rows, found_hash });
        }
    }
    run(format!("DROP TABLE {} SYNC", table(database, MANIFEST))).await?;
    for name in tables.iter().filter(|name| *name != MANIFEST) {
        run(format!("SYSTEM START MERGES {}", table(database, name))).await?;
    }
    Ok(Restored { tables: entries.len(), rows: entries.iter().map(|entry| entry.rows).sum() })
}

fn restore_sql(from: &str, to: &str, place: &Place, settings: &str) -> String {
    let place = place.sql();
    let (from, to) = (name(from), name(to));
    format!("RESTORE DATABASE {from} AS {to} FROM {place} SETTINGS {settings}")
}

/// The engine's words for a place without a backup are about files of its own.
fn explained(error: SinkError, place: &Place) -> BackupError {
    match &error {
        SinkError::Refused { problem, .. } if problem.contains("BACKUP_NOT_FOUND") => {
            BackupError::Missing { place: place.to_string() }
        }
        _ => error.into(),
    }
}

async fn with_rows(client: &ClickHouse, database: &str) -> Result<Vec<String>, SinkError> {
    // What the schema itself writes is not what somebody would miss.
    let sql = format!(
        "SELECT name FROM system.tables WHERE database = '{}' AND total_rows > 0 \
         AND name != 'schema_migrations' ORDER BY name",
        quoted(database)
    );
    Ok(client.table(sql).await?.into_iter().flatten().collect())
}
