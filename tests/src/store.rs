//! A store of the real binary on a temporary folder, started by hand (without
//! a key), and rows for it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clickhouse::{Client, Row};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::net::TcpSocket;

use crate::bin_path::flow_agent;
use crate::{port, process, sql};

/// How long a store may take to start or stop.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// A row.
#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
pub struct Flow {
    /// A number.
    pub id: u64,
    /// A text.
    pub host: String,
}

/// Rows with these ids.
pub fn flows(ids: std::ops::Range<u64>) -> Vec<Flow> {
    ids.map(|id| Flow { id, host: format!("host-{}", id % 97) }).collect()
}

/// The same rows as TSV.
pub fn tsv(ids: std::ops::Range<u64>) -> String {
    flows(ids).iter().fold(String::new(), |mut tsv, flow| {
        tsv.extend([&flow.id.to_string(), "\t", &flow.host, "\n"]);
        tsv
    })
}

/// A running store.
pub struct Store {
    /// Its process.
    process: process::Store,
    /// The folder above its data folder.
    pub dir: TempDir,
}

/// A store that was killed: its folder and where it served.
pub struct Killed {
    dir: TempDir,
    address: String,
    _port: TcpSocket,
}

impl Store {
    /// Starts one on a new folder.
    pub fn start() -> Self {
        Self::start_in(TempDir::with_prefix("flow-store-").unwrap(), "127.0.0.1:0")
    }

    /// The same, with the agent's tables.
    pub fn with_tables() -> Self {
        let store = Self::start();
        let mut apply = Command::new(flow_agent());
        let applied = apply.args(["schema", "apply", "--store", store.url()]).output().unwrap();
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        store
    }

    /// Starts one on a new folder in another.
    pub fn start_under(folder: &Path) -> Self {
        Self::start_in(TempDir::with_prefix_in("flow-store-", folder).unwrap(), "127.0.0.1:0")
    }

    /// Starts one on a new folder, with these arguments more.
    pub fn start_with(more: &[&str]) -> Self {
        let dir = TempDir::with_prefix("flow-store-").unwrap();
        let (data, log) = (dir.path().join("data"), dir.path().join("log"));
        let more = [&["--listen", "127.0.0.1:0"], more].concat();
        let process = process::Store::start_with(&flow_agent(), &data, &log, &more).unwrap();
        Self { process, dir }
    }

    fn start_in(dir: TempDir, address: &str) -> Self {
        let (data, log) = (dir.path().join("data"), dir.path().join("log"));
        let process = process::Store::start_at(&flow_agent(), &data, &log, address).unwrap();
        Self { process, dir }
    }

    /// Stops it cleanly and starts it again.
    #[must_use]
    pub fn restart(self) -> Self {
        self.restart_by(Signal::TERM)
    }

    /// Ends it with a signal that must end it cleanly, and starts it again.
    #[must_use]
    pub fn restart_by(self, signal: Signal) -> Self {
        let address = self.address();
        self.process.end(signal).unwrap();
        Killed::new(self.dir, address).start()
    }

    /// Kills it outright and starts it again.
    #[must_use]
    pub fn crash(self) -> Self {
        self.kill().start()
    }

    /// Kills it outright.
    #[must_use]
    pub fn kill(self) -> Killed {
        let address = self.address();
        let status = self.process.kill().unwrap();
        assert!(!status.success(), "a killed store has not stopped cleanly");
        Killed::new(self.dir, address)
    }

    /// Sends it a signal, for example to have it hang.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal).unwrap();
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where it serves.
    pub fn url(&self) -> &str {
        self.process.url()
    }

    fn address(&self) -> String {
        self.url().trim_start_matches("http://").to_owned()
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        Client::default().with_url(self.url())
    }

    /// Runs a statement; leaves the answer's text.
    pub fn sql(&self, query: &str) -> String {
        sql::text(self.url(), query).unwrap().trim_end().to_owned()
    }

    /// Makes a table; `window` is the deduplication window: with one, equal inserts collapse.
    pub fn create(&self, table: &str, window: u32) {
        self.sql(&format!(
            "CREATE TABLE {table} (id UInt64, host String) ENGINE = MergeTree ORDER BY id \
             SETTINGS non_replicated_deduplication_window = {window}, \
             fsync_after_insert = 1, fsync_part_directory = 1"
        ));
    }

    /// The rows of a table.
    pub fn count(&self, table: &str) -> u64 {
        self.sql(&format!("SELECT count() FROM {table}")).parse().unwrap()
    }

    /// Stops it cleanly; leaves what it logged.
    pub fn stop_and_log(self) -> String {
        self.process.stop().unwrap()
    }

    /// Stops it cleanly and keeps its folder.
    pub fn stop_keeping(self) -> TempDir {
        self.process.stop().unwrap();
        self.dir
    }

    /// Stops it cleanly.
    pub fn stop(self) {
        self.process.stop().unwrap();
    }
}

impl Killed {
    fn new(dir: TempDir, address: String) -> Self {
        let port = port::keep(address.parse().unwrap()).unwrap();
        Self { dir, address, _port: port }
    }

    /// Starts it again on the same folder, at the same port.
    pub fn start(self) -> Store {
        Store::start_in(self.dir, &self.address)
    }
}

/// Inserts rows through the crate.
pub async fn insert(client: &Client, table: &str, rows: &[Flow]) -> clickhouse::error::Result<()> {
    let mut insert = client.insert::<Flow>(table).await?;
    for row in rows {
        insert.write(row).await?;
    }
    insert.end().await
}
