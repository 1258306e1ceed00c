//! ClickHouse over HTTP: schema, rows, books.

use std::sync::Arc;
use std::time::Duration;

use clickhouse::{Client, Compression, Row, RowWrite};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use uuid::Uuid;

use super::connector::{ConnectionWatch, Connector};
use super::error::first_line;
use super::{SinkError, StoreAddress};
use crate::frozen::FrozenBatch;
use crate::latency::Bucket;
use crate::ledger::Counts;
use crate::schema::Schema;

/// How long one insert may take before it counts as failed.
const INSERT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the server may take to accept a connection or answer a small question.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Below the 3 s after which a ClickHouse server closes an idle connection.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// A ClickHouse server that holds the tables.
#[derive(Clone)]
pub struct ClickHouse {
    client: Client,
    address: StoreAddress,
}

#[derive(Debug, Row, Serialize)]
struct LedgerRow<'a> {
    ts: u32,
    exporter: &'a str,
    interface: &'a str,
    stage: &'static str,
    reason: &'static str,
    packets: u64,
    octets: u64,
}

#[derive(Debug, Row, Serialize)]
struct LatencyRow<'a> {
    ts: u32,
    exporter: &'a str,
    stage: &'static str,
    bucket_ns: u64,
    count: u64,
}

#[derive(Debug, Row, Serialize)]
struct MigrationRow<'a> {
    version: u32,
    name: &'a str,
    agent_version: &'a str,
}

impl ClickHouse {
    /// A client; nothing is sent yet.
    pub fn new(address: StoreAddress) -> Self {
        Self::watched(address, None)
    }

    /// The same; `watch` hears of every connection.
    pub fn watched(address: StoreAddress, watch: Option<Arc<dyn ConnectionWatch>>) -> Self {
        let client = watch.map_or_else(Client::default, |watch| {
            let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
                .pool_idle_timeout(POOL_IDLE_TIMEOUT)
                .pool_timer(TokioTimer::new())
                .build(Connector::new(watch));
            Client::with_http_client(client)
        });
        let mut client = client
            .with_url(&address.url)
            .with_product_info("flow-agent", env!("CARGO_PKG_VERSION"))
            // What exactly-once depends on is said each time: defaults differ between versions.
            .with_setting("async_insert", "0")
            .with_setting("insert_deduplicate", "1")
            .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1");
        if let Some((user, password)) = &address.user {
            client = client.with_user(user).with_password(password);
        }
        Self { client, address }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Where it is.
    pub fn address(&self) -> &StoreAddress {
        &self.address
    }

    /// Brings the schema up to date.
    ///
    /// # Errors
    /// The store is away, refuses, or has a newer schema.
    pub async fn apply_schema(&self, schema: &Schema) -> Result<(), SinkError> {
        let run = |sql: String| {
            let client = self.client.clone();
            async move { client.query_raw(&sql).execute().await }
        };
        for statement in schema.bookkeeping() {
            self.ask("create the schema", run(statement)).await?;
        }
        let database = &self.address.database;
        let sql = format!("SELECT max(version) FROM {database}.schema_migrations");
        let found: u32 =
            self.ask("say its schema version", self.client.query(&sql).fetch_one()).await?;
        if found > Schema::version() {
            let address = self.address.to_string();
            return Err(SinkError::NewerSchema { address, found, known: Schema::version() });
        }
        for step in schema.after(found) {
            tracing::info!(version = step.version, name = step.name, "applying schema migration");
            for statement in step.statements {
                self.ask("apply the schema", run(statement)).await?;
            }
            let row = MigrationRow {
                version: step.version,
                name: step.name,
                agent_version: env!("CARGO_PKG_VERSION"),
            };
            self.insert::<MigrationRow<'_>>("schema_migrations", Uuid::now_v7(), [row]).await?;
        }
        let prefix = format!("{database}.");
        let statements: Vec<_> = schema.after(0).into_iter().flat_map(|s| s.statements).collect();
        let sql = format!("SELECT name FROM system.tables WHERE database = '{database}'");
        let there: Vec<String> =
            self.ask("list its tables", self.client.query(&sql).fetch_all()).await?;
        let missing: Vec<_> = statements
            .iter()
            .filter_map(|statement| statement.strip_prefix("CREATE TABLE IF NOT EXISTS "))
            .filter_map(|rest| rest.split_whitespace().next()?.strip_prefix(&prefix))
            .filter(|table| !there.iter().any(|name| name == table))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let tables = missing.join(", ");
        tracing::warn!(
            tables,
            "tables of the schema are missing: somebody dropped them; creating them again, empty"
        );
        for statement in statements {
            self.ask("create missing tables", run(statement)).await?;
        }
        Ok(())
    }

    /// Inserts a batch. The same batch can be sent again: its token makes the
    /// store take it once.
    ///
    /// # Errors
    /// The store is away or refuses; it may or may not have the rows.
    pub async fn insert_batch(&self, batch: &FrozenBatch) -> Result<(), SinkError> {
        let insert = async {
            let mut insert = self
                .client
                .clone()
                .with_compression(Compression::None)
                .insert_formatted_with(batch.insert_sql(&self.address.database))
                .with_timeouts(Some(QUESTION_TIMEOUT), Some(INSERT_TIMEOUT))
                .with_setting("insert_deduplication_token", batch.id.to_string());
            insert.send(batch.block.clone()).await?;
            insert.end().await
        };
        let what = format!("insert into {}", batch.table.name());
        insert.await.map_err(|error| self.error(&what, &error))
    }

    /// Inserts what the ledger counted in an interval that ended at `ts` (Unix seconds).
    ///
    /// # Errors
    /// As [`ClickHouse::insert_batch`]; `token` makes a repetition harmless.
    pub async fn insert_ledger(
        &self,
        token: Uuid,
        ts: u32,
        counts: &Counts,
        exporter: &str,
    ) -> Result<(), SinkError> {
        let rows = counts.iter().map(|((interface, entry), count)| {
            let (stage, reason) = entry.labels();
            LedgerRow {
                ts,
                exporter,
                interface,
                stage,
                reason,
                packets: count.packets,
                octets: count.octets,
            }
        });
        self.insert::<LedgerRow<'_>>("ledger", token, rows).await
    }

    /// Inserts histogram buckets of an interval that ended at `ts` (Unix seconds).
    ///
    /// # Errors
    /// As [`ClickHouse::insert_batch`]; `token` makes a repetition harmless.
    pub async fn insert_latency(
        &self,
        token: Uuid,
        ts: u32,
        buckets: &[Bucket],
        exporter: &str,
    ) -> Result<(), SinkError> {
        let rows = buckets.iter().map(|bucket| LatencyRow {
            ts,
            exporter,
            stage: bucket.stage.label(),
            bucket_ns: bucket.upper_ns,
            count: bucket.count,
        });
        self.insert::<LatencyRow<'_>>("latency", token, rows).await
    }

    /// The rows that a question with server-side parameters is answered with; `{table}` in it
    /// stands for `table` of the database.
    ///
    /// # Errors
    /// The store is away, does not answer in time, or refuses the question.
    pub async fn rows<T: clickhouse::RowOwned + clickhouse::RowRead>(
        &self,
        table: &str,
        sql: &str,
        parameters: &[(&str, String)],
    ) -> Result<Vec<T>, SinkError> {
        let table = format!("{}.{table}", self.address.database);
        let mut query = self.client.query(&sql.replace("{table}", &table));
        for (name, value) in parameters {
            query = query.param(name, value);
        }
        let limit = QUESTION_TIMEOUT.as_secs().to_string();
        self.ask("answer", query.with_setting("max_execution_time", limit).fetch_all()).await
    }

    pub(super) async fn insert<'r, T: RowWrite>(
        &self,
        table: &str,
        token: Uuid,
        rows: impl IntoIterator<Item = T::Value<'r>>,
    ) -> Result<(), SinkError> {
        let what = format!("insert into {table}");
        let insert = async {
            let mut insert = self
                .client
                .clone()
                .with_database(&self.address.database)
                .insert::<T>(table)
                .await?
                .with_timeouts(Some(QUESTION_TIMEOUT), Some(INSERT_TIMEOUT))
                .with_setting("insert_deduplication_token", token.to_string());
            for row in rows {
                insert.write(&row).await?;
            }
            insert.end().await
        };
        insert.await.map_err(|error| self.error(&what, &error))
    }

    async fn ask<T>(
        &self,
        what: &str,
        question: impl Future<Output = clickhouse::error::Result<T>>,
    ) -> Result<T, SinkError> {
        match tokio::time::timeout(QUESTION_TIMEOUT, question).await {
            Ok(answer) => answer.map_err(|error| self.error(what, &error)),
            Err(_) => Err(self.unreachable(format!("no answer within {QUESTION_TIMEOUT:?}"))),
        }
    }

    pub(super) fn error(&self, what: &str, error: &clickhouse::error::Error) -> SinkError {
        use clickhouse::error::Error;
        match error {
            Error::Network(source) => {
                let mut problem = source.to_string();
                let mut cause = source.source();
                while let Some(error) = cause {
                    problem = error.to_string();
                    cause = error.source();
                }
                self.unreachable(problem)
            }
            Error::TimedOut => self.unreachable("no answer in time".into()),
            Error::BadResponse(answer) => self.refused(what, answer),
            error => self.refused(what, &error.to_string()),
        }
    }

    fn refused(&self, what: &str, problem: &str) -> SinkError {
        let problem = first_line(problem);
        SinkError::Refused { address: self.address.to_string(), what: what.into(), problem }
    }

    fn unreachable(&self, problem: String) -> SinkError {
        SinkError::Unreachable { address: self.address.to_string(), problem }
    }
}
