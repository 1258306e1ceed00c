//! Backups through the store's own engine. A backup enters from a database and
//! leaves as a folder, an archive or whatever place the engine knows; a restore
//! goes the other way. What must hold: a backup is what each table was at one
//! moment, also while inserts go on; it holds a manifest of rows and checksums,
//! and a restore that does not equal it is an error.

mod error;
mod manifest;
mod place;
mod restore;
mod save;
mod watch;

pub use error::BackupError;
pub use place::Place;
pub use restore::{Restored, restore};
pub use save::{Saved, save};

use crate::sink::{ClickHouse, SinkError, quoted};

/// A database or table name in SQL.
fn name(text: &str) -> String {
    format!("`{}`", text.replace('\\', "\\\\").replace('`', "\\`"))
}

/// A table of a database in SQL.
fn table(database: &str, table: &str) -> String {
    format!("{}.{}", name(database), name(table))
}

/// The first field of the only row.
async fn one(client: &ClickHouse, sql: String) -> Result<String, SinkError> {
    let rows = client.table(sql).await?;
    Ok(rows.into_iter().flatten().next().unwrap_or_default())
}

/// Whether there is such a database.
async fn exists(client: &ClickHouse, database: &str) -> Result<bool, SinkError> {
    let sql = format!("SELECT 1 FROM system.databases WHERE name = '{}'", quoted(database));
    Ok(!client.table(sql).await?.is_empty())
}
