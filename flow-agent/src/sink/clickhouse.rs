//! ClickHouse over HTTP: schema, rows, books.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clickhouse::{Client, RowWrite};
use uuid::Uuid;

use super::error::first_line;
use super::problem::Problem;
use super::{Access, SinkError, StoreAddress};

/// ClickHouse's words for a wrong user or password.
const WRONG_CREDENTIALS: [u32; 3] = [192, 193, 516];

/// A ClickHouse server that holds the tables.
#[derive(Clone)]
pub struct ClickHouse {
    client: Client,
    address: StoreAddress,
    access: Access,
    /// What the server knows of the settings that not every version has; none: not asked yet.
    settings: Arc<Mutex<Option<Vec<Setting>>>>,
}

/// Name and value.
pub(super) type Setting = (&'static str, &'static str);

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
        Self { client, address, access, settings: Arc::default() }
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

    pub(super) fn settings(&self) -> MutexGuard<'_, Option<Vec<Setting>>> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
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

    pub(super) async fn ask<T>(
        &self,
        what: &str,
        question: impl Future<Output = clickhouse::error::Result<T>>,
    ) -> Result<T, SinkError> {
        match tokio::time::timeout(self.read_timeout(), question).await {
            Ok(answer) => answer.map_err(|error| self.error(what, &error)),
            Err(_) => Err(self.unreachable(format!("no answer within {:?}", self.read_timeout()))),
        }
    }

    /// The rows that a question of the agent's own is answered with.
    pub(super) async fn question<T: clickhouse::RowOwned + clickhouse::RowRead>(
        &self,
        what: &str,
        sql: &str,
    ) -> Result<Vec<T>, SinkError> {
        self.ask(what, self.client().query(sql).fetch_all()).await
    }

    /// Runs a statement that answers nothing; `patience` is how long it may take.
    pub(super) async fn run_statement(
        &self,
        what: &str,
        sql: &str,
        patience: Duration,
    ) -> Result<(), SinkError> {
        let statement = self.client().query_raw(sql).execute();
        match tokio::time::timeout(patience, statement).await {
            Ok(answer) => answer.map_err(|error| self.error(what, &error)),
            Err(_) => Err(self.unreachable(format!("no answer within {patience:?}"))),
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
