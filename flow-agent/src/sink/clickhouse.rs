//! ClickHouse over HTTP: schema, rows, books.

use std::time::Duration;

use clickhouse::{Client, Row, RowWrite};
use serde::Serialize;
use uuid::Uuid;

use super::error::first_line;
use super::problem::Problem;
use super::{Access, SinkError, StoreAddress};
use crate::batch::Batch;
use crate::latency::Bucket;
use crate::ledger::Counts;
use crate::row::FlowRow;
use crate::schema::Schema;

/// ClickHouse's words for a wrong user or password.
const WRONG_CREDENTIALS: [u32; 3] = [192, 193, 516];

/// A ClickHouse server that holds the tables.
#[derive(Clone)]
pub struct ClickHouse {
    client: Client,
    address: StoreAddress,
    access: Access,
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
    /// A client with connections of its own; nothing is sent yet.
    pub fn new(address: StoreAddress, access: Access) -> Self {
        let client = access
            .client(&address)
            .with_product_info("flow-agent", env!("CARGO_PKG_VERSION"))
            // What exactly-once depends on is said each time: defaults differ between versions.
            .with_setting("async_insert", "0")
            .with_setting("insert_deduplicate", "1")
            .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1");
        Self { client, address, access }
    }

    /// What every request is made of: with the password of now, which may be another one than
    /// at the last request.
    pub(super) fn client(&self) -> Client {
        let client = self.client.clone();
        match self.address.user.clone().or_else(|| self.access.credentials().current()) {
            Some((user, password)) => client.with_user(user).with_password(password.expose()),
            None => client,
        }
    }

    /// How long an answer to a question may take.
    pub(super) fn read_timeout(&self) -> Duration {
        self.access.config().read_timeout
    }

    /// How long a whole insert may take.
    pub(super) fn insert_timeout(&self) -> Duration {
        self.access.config().insert_timeout
    }

    /// Asks for nothing, to know whether it answers, is a ClickHouse and takes the password.
    ///
    /// # Errors
    /// One of these is not so.
    pub async fn probe(&self) -> Result<(), SinkError> {
        self.ask("answer", self.client().query("SELECT 1").fetch_one::<u8>()).await.map(drop)
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
            let client = self.client();
            async move { client.query_raw(&sql).execute().await }
        };
        for statement in schema.bookkeeping() {
            self.ask("create the schema", run(statement)).await?;
        }
        let database = &self.address.database;
        let sql = format!("SELECT max(version) FROM {database}.schema_migrations");
        let found: u32 =
            self.ask("say its schema version", self.client().query(&sql).fetch_one()).await?;
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
            self.ask("list its tables", self.client().query(&sql).fetch_all()).await?;
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

    /// Asks in SQL; the answer in `format` is given to `out` piece by piece
    /// until it returns false.
    ///
    /// # Errors
    /// The store is away, or refuses the question.
    pub async fn query(
        &self,
        sql: &str,
        format: &str,
        mut out: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), SinkError> {
        let client = self.client();
        let answer = async {
            let mut answer = client.query_raw(sql).fetch_bytes(format)?;
            while let Some(bytes) = answer.next().await? {
                if !out(&bytes) {
                    break;
                }
            }
            Ok(())
        };
        answer.await.map_err(|error| self.error("answer", &error))
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
        let mut query = self.client().query(&sql.replace("{table}", &table));
        for (name, value) in parameters {
            query = query.param(name, value);
        }
        let limit = self.read_timeout().as_secs().max(1).to_string();
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
                .client()
                .with_database(&self.address.database)
                .insert::<T>(table)
                .await?
                .with_timeouts(Some(self.read_timeout()), Some(self.insert_timeout()))
                .with_setting("insert_deduplication_token", token.to_string());
            for row in rows {
                insert.write(&row).await?;
            }
            insert.end().await
        };
        let limit = self.insert_timeout();
        match tokio::time::timeout(limit, insert).await {
            Ok(done) => done.map_err(|error| self.error(&what, &error)),
            Err(_) => Err(SinkError::Silent { seconds: limit.as_secs() }),
        }
    }

    async fn ask<T>(
        &self,
        what: &str,
        question: impl Future<Output = clickhouse::error::Result<T>>,
    ) -> Result<T, SinkError> {
        match tokio::time::timeout(self.read_timeout(), question).await {
            Ok(answer) => answer.map_err(|error| self.error(what, &error)),
            Err(_) => Err(self.unreachable(format!("no answer within {:?}", self.read_timeout()))),
        }
    }

    /// What an error of the transport means.
    pub(super) fn error(&self, what: &str, error: &clickhouse::error::Error) -> SinkError {
        use clickhouse::error::Error;
        let address = || self.address.to_string();
        match error {
            Error::Network(source) => match Problem::of(source.as_ref()) {
                Problem::NoConnection(problem) => {
                    SinkError::NoConnection { address: address(), problem }
                }
                Problem::Tls(problem) => SinkError::Tls { address: address(), problem },
                Problem::Strange(problem) => SinkError::Strange { address: address(), problem },
                Problem::Other(problem) => self.unreachable(problem),
            },
            Error::TimedOut => self.unreachable("no answer in time".into()),
            Error::BadResponse(answer) => self.refused(what, answer),
            error => self.refused(what, &error.to_string()),
        }
    }

    fn refused(&self, what: &str, problem: &str) -> SinkError {
        let error = SinkError::Refused {
            address: self.address.to_string(),
            what: what.into(),
            problem: first_line(problem),
        };
        if error.code().is_some_and(|code| WRONG_CREDENTIALS.contains(&code)) {
            return self.wrong_credentials(error);
        }
        error
    }

    /// The password may have been changed; then the next request has the new one.
    fn wrong_credentials(&self, error: SinkError) -> SinkError {
        let address = self.address.to_string();
        let SinkError::Refused { problem, .. } = error else { return error };
        let denied = SinkError::Denied { address, problem };
        if self.address.user.is_some() {
            return denied;
        }
        match self.access.credentials().reread() {
            Ok(false) => denied,
            Ok(true) => {
                tracing::info!("{} refused the password; the file has another one", self.address);
                SinkError::NewPassword { address: self.address.to_string() }
            }
            Err(source) => {
                tracing::warn!("{source}; the password from before stays");
                denied
            }
        }
    }

    fn unreachable(&self, problem: String) -> SinkError {
        SinkError::Unreachable { address: self.address.to_string(), problem }
    }
}
