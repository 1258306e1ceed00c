//! Bringing the tables of a store up to date: enters a schema, leaves tables that an agent of this
//! version can insert into, or a clear refusal.

use std::time::Duration;

use clickhouse::Row;
use serde::Deserialize;

use super::{ClickHouse, SinkError};
use crate::schema::Schema;

/// How long a statement may take; on a cluster each host has to run it.
const STATEMENT_TIMEOUT: Duration = Duration::from_mins(3);

#[derive(Debug, Row, Deserialize)]
struct TableRow {
    name: String,
}

impl ClickHouse {
    /// Brings the schema up to date.
    ///
    /// # Errors
    /// The store is away, refuses, or has a newer schema.
    pub async fn apply_schema(&self, schema: &Schema) -> Result<(), SinkError> {
        for statement in schema.bookkeeping() {
            self.ddl("create the schema", &statement).await?;
        }
        let sql = format!("SELECT max(version) FROM {}.schema_migrations", schema.local());
        let mut found = self.question::<u32>("say its schema version", &sql).await?;
        let version = found.pop().unwrap_or(0);
        if version > Schema::version() {
            let address = self.address().to_string();
            return Err(SinkError::NewerSchema {
                address,
                found: version,
                known: Schema::version(),
            });
        }
        if (1..Schema::FIRST_VERSION).contains(&version) {
            self.set_aside(schema, version).await?;
        }
        for step in schema.after(version) {
            tracing::info!(version = step.version, name = step.name, "applying schema migration");
            for statement in &step.statements {
                self.ddl("apply the schema", statement).await?;
            }
            let applied = schema.applied(&step, env!("CARGO_PKG_VERSION"));
            self.ddl("note the schema version", &applied).await?;
        }
        self.make_missing(schema).await
    }

    /// Tables of an unreleased version get other names; the migrations then make new ones.
    async fn set_aside(&self, schema: &Schema, version: u32) -> Result<(), SinkError> {
        let there = self.tables(&schema.local()).await?;
        for (table, statement) in schema.set_aside(version) {
            let kept = format!("{table}_v{version}");
            if there.iter().any(|other| other.name == kept) {
                continue;
            }
            tracing::warn!(
                table,
                kept,
                "a table of an unreleased version keeps its rows under another name"
            );
            self.ddl("rename an older table", &statement).await?;
        }
        Ok(())
    }

    /// Makes tables again that somebody dropped.
    async fn make_missing(&self, schema: &Schema) -> Result<(), SinkError> {
        let local = schema.local();
        let there = self.tables(&local).await?;
        let missing: Vec<_> = schema
            .tables()
            .into_iter()
            .filter(|table| !there.iter().any(|other| other.name == *table))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let tables = missing.join(", ");
        tracing::warn!(
            tables,
            "tables of the schema are missing: somebody dropped them; creating them again, empty"
        );
        for statement in schema.after(0).into_iter().flat_map(|step| step.statements) {
            self.ddl("create missing tables", &statement).await?;
        }
        Ok(())
    }

    async fn tables(&self, database: &str) -> Result<Vec<TableRow>, SinkError> {
        let sql = format!("SELECT name FROM system.tables WHERE database = '{database}'");
        self.question("list its tables", &sql).await
    }

    async fn ddl(&self, what: &str, statement: &str) -> Result<(), SinkError> {
        self.execute_within(what, statement, STATEMENT_TIMEOUT).await
    }
}
