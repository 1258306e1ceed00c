//! Why a backup or a restore was not made.

use crate::Exit;
use crate::sink::SinkError;

/// Why a backup or a restore was not made.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message says what each field is")]
pub enum BackupError {
    /// The place is taken.
    #[error("{place} is there already; choose another name, or remove it first")]
    Exists { place: String },
    /// There is nothing at the place.
    #[error("there is no backup at {place}")]
    Missing { place: String },
    /// Nothing to save.
    #[error(
        "the database {database} at {address} has no tables; is that the right store and database?"
    )]
    Nothing { database: String, address: String },
    /// Another backup is under way, or was killed.
    #[error(
        "the database {snapshot} is there: another backup or restore is being made, or one was \
         killed; if none is being made, remove it with `flow-agent query 'DROP DATABASE {snapshot} SYNC'`"
    )]
    Busy { snapshot: String },
    /// A table that is no plain one.
    #[error(
        "the table {table} is {engine}, which has copies on other servers: back a cluster up with \
         ClickHouse's BACKUP ... ON CLUSTER"
    )]
    Clustered { table: String, engine: String },
    /// The database has rows.
    #[error(
        "the database {database} at {address} has rows (in {tables}); restore into another store, \
         or add --replace to remove what is there first"
    )]
    NotEmpty { database: String, address: String, tables: String },
    /// A backup that this command has not made.
    #[error(
        "{place} has no manifest of rows and checksums: it was not made by `flow-agent backup`; \
         restore it with ClickHouse's RESTORE"
    )]
    NoManifest { place: String },
    /// What came back is not what was saved.
    #[error(
        "the restored table {table} is not what was saved: {found_rows} rows with checksum \
         {found_hash} instead of {rows} with {hash}; do not use it, the backup is damaged"
    )]
    Differs { table: String, rows: u64, hash: u64, found_rows: u64, found_hash: u64 },
    /// The store.
    #[error(transparent)]
    Sink(#[from] SinkError),
}

impl BackupError {
    /// The process exit code for this error.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Exists { .. } | Self::Missing { .. } => Exit::Usage,
            Self::Sink(error) => error.exit(),
            Self::Nothing { .. }
            | Self::Busy { .. }
            | Self::Clustered { .. }
            | Self::NotEmpty { .. }
            | Self::NoManifest { .. }
            | Self::Differs { .. } => Exit::Failed,
        }
    }
}
