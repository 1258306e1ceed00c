//! ClickHouse over HTTP: schema, rows, books.

use std::sync::Arc;
use std::time::Duration;

use clickhouse::{Client, Row, RowWrite};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use uuid::Uuid;

use super::connector::{ConnectionWatch, Connector};
use super::error::first_line;
use super::{SinkError, StoreAddress};
use crate::batch::Batch;
use crate::latency::Bucket;
use crate::ledger::Counts;
use crate::row::FlowRow;

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

    /// Inserts a batch. The same batch can be sent again: its token makes the
    /// store take it once.
    ///
    /// # Errors
    /// The store is away or refuses; it may or may not have the rows.
    pub async fn insert_batch(&self, batch: &Batch) -> Result<(), SinkError> {
        self.insert::<FlowRow<'_>>("flows", batch.id, batch.rows()).await
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

    /// The rows that a question of the agent's own is answered with.
    pub(super) async fn question<T: clickhouse::RowOwned + clickhouse::RowRead>(
        &self,
        what: &str,
        sql: &str,
    ) -> Result<Vec<T>, SinkError> {
        self.ask(what, self.client.query(sql).fetch_all()).await
    }

    /// Runs a statement that answers nothing; `patience` is how long it may take.
    pub(super) async fn run_statement(
        &self,
        what: &str,
        sql: &str,
        patience: Duration,
    ) -> Result<(), SinkError> {
        let statement = self.client.query_raw(sql).execute();
        match tokio::time::timeout(patience, statement).await {
            Ok(answer) => answer.map_err(|error| self.error(what, &error)),
            Err(_) => Err(self.unreachable(format!("no answer within {patience:?}"))),
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
