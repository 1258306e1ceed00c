//! Bringing the tables of a store up to date: enters a schema, leaves tables that an agent of this
//! version can insert into, or a clear refusal.

use std::cmp::Ordering;
use std::time::Duration;

use super::{ClickHouse, SinkError};
use crate::schema::{Layouts, Schema};

/// How long a statement may take; on a cluster each host has to run it.
const STATEMENT_TIMEOUT: Duration = Duration::from_mins(3);

impl ClickHouse {
    /// Brings the schema up to date.
    ///
    /// # Errors
    /// The store is away, refuses, or has a newer schema.
    pub async fn apply_schema(&self, schema: &Schema) -> Result<(), SinkError> {
        if self.is_cluster(schema).await? {
            return self.check_version(schema).await;
        }
        for statement in schema.bookkeeping() {
            self.ddl("create the schema", &statement).await?;
        }
        let version = self.version(schema).await?;
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
        self.make_missing(schema).await?;
        self.keep(schema).await
    }

    /// Sets how long rows are kept where it is not as the schema says.
    async fn keep(&self, schema: &Schema) -> Result<(), SinkError> {
        if schema.keep().is_empty() {
            return Ok(());
        }
        let (found, wanted) = (self.layouts(schema).await?, self.wanted(schema).await?);
        let ttl = |layouts: &Layouts, table: &str| {
            layouts.get(table).and_then(|layout| layout.clauses.get("ttl")).cloned()
        };
        for (table, statement) in schema.keep() {
            if ttl(&found, &table) != ttl(&wanted, &table) {
                tracing::info!(table, "changing how long rows are kept");
                self.ddl("change how long rows are kept", &statement).await?;
            }
        }
        Ok(())
    }

    /// Whether the tables are a cluster's, which an agent alone does not change.
    async fn is_cluster(&self, schema: &Schema) -> Result<bool, SinkError> {
        if schema.cluster().is_some() {
            return Ok(false);
        }
        let table = format!("{}.flows", schema.local());
        let layouts = self.layouts(schema).await?;
        let engine = layouts.get(&table).and_then(|layout| layout.clauses.get("engine"));
        let engine = engine.map_or("", String::as_str);
        if engine.starts_with("Distributed") {
            let address = self.address().to_string();
            let local = format!("{}_local", schema.local());
            return Err(SinkError::Distributed { address, table, local });
        }
        Ok(engine.starts_with("Replicated"))
    }

    async fn check_version(&self, schema: &Schema) -> Result<(), SinkError> {
        let (found, known) = (self.version(schema).await?, Schema::version());
        let address = self.address().to_string();
        match found.cmp(&known) {
            Ordering::Equal => Ok(()),
            Ordering::Greater => Err(SinkError::NewerSchema { address, found, known }),
            Ordering::Less => Err(SinkError::OlderCluster { address, found, known }),
        }
    }

    async fn version(&self, schema: &Schema) -> Result<u32, SinkError> {
        let sql = format!("SELECT max(version) FROM {}.schema_migrations", schema.local());
        let found = self.question::<u32>("say its schema version", &sql).await?;
        Ok(found.first().copied().unwrap_or(0))
    }

    /// Tables of an unreleased version get other names; the migrations then make new ones.
    async fn set_aside(&self, schema: &Schema, version: u32) -> Result<(), SinkError> {
        let there = self.layouts(schema).await?;
        for (table, statement) in schema.set_aside(version) {
            let kept = format!("{}.{table}_v{version}", schema.local());
            if there.contains_key(&kept) {
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
        let there = self.layouts(schema).await?;
        let definitions = schema.definitions();
        let missing: Vec<_> = definitions
            .iter()
            .map(|made| made.name.as_str())
            .filter(|name| !there.contains_key(*name))
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

    async fn ddl(&self, what: &str, statement: &str) -> Result<(), SinkError> {
        self.run_statement(what, statement, STATEMENT_TIMEOUT).await
    }
}
