//! The schema: versioned migrations, forward only, safe to apply again.
//!
//! Enters: a database, how long rows are kept, and the name of a cluster if there is one. Leaves:
//! statements (`migration`), what tells whether a batch is stored (`evidence`), and what the tables
//! of a store differ in (`layout`, `difference`). What must hold: a table and its rollups hold a
//! batch wholly or not at all (`rollup`).

mod difference;
mod evidence;
mod layout;
mod migration;
mod retention;
mod rollup;

use std::time::Duration;

pub use difference::{Difference, Layouts, differences};
pub use evidence::Evidence;
pub use layout::Layout;
pub use migration::{Definition, Step};
pub use retention::Retention;

/// The schema for one database.
#[derive(Clone, Debug)]
pub struct Schema {
    database: String,
    durable: bool,
    retention: Retention,
    /// Whether tables that keep rows otherwise are changed.
    keep: bool,
    cluster: Option<String>,
}

impl Schema {
    /// The schema in `database`. A `durable` store syncs each insert to disk
    /// before it answers: the embedded one, which has no replica.
    pub fn new(database: &str, durable: bool) -> Self {
        Self {
            database: database.into(),
            durable,
            retention: Retention::default(),
            keep: false,
            cluster: None,
        }
    }

    /// The same, with rows kept as long as `retention` says, also in tables that are there.
    #[must_use]
    pub fn keeping(self, retention: Retention) -> Self {
        Self { retention, keep: true, ..self }
    }

    /// The same for a cluster of that name: replicated tables in the database `local`, which agents
    /// insert into, and in `database` tables over those of all shards, which people query.
    #[must_use]
    pub fn on_cluster(self, cluster: &str) -> Self {
        Self { cluster: Some(cluster.into()), ..self }
    }

    /// The cluster of its tables.
    pub fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// The database that people query.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The database of the tables that agents insert into.
    pub fn local(&self) -> String {
        match &self.cluster {
            Some(_) => format!("{}_local", self.database),
            None => self.database.clone(),
        }
    }
}

const fn days(days: u32) -> Duration {
    Duration::from_secs(86_400 * days as u64)
}
