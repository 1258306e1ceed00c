//! What an insert costs: records become batches, and go as the delivery sends them into an
//! embedded store of its own. Needs the engine's library and no privilege.
//!
//! Two inserts are in flight while the next batch is encoded. Rows, labels and the store's tables
//! are made before the clock starts; the materialized views are dropped unless they are asked for.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clickhouse::{Client, Compression};
use rustix::time::ClockId;
use serde::Serialize;
use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::rig::cpu_time;
use super::{failed, rounded, rows};
use crate::Error;
use crate::clock::wall_clock;
use crate::enrich::BatchLabels;
use crate::frozen::FrozenBatch;
use crate::record::FlowRecord;
use crate::store::EmbeddedStore;

/// Batches that are measured.
const BATCHES: [usize; 3] = [50_000, 200_000, 500_000];
const IN_FLIGHT: usize = 2;
const DATABASE: &str = "flow";
const STORE_DEADLINE: Duration = Duration::from_secs(60);
/// `/proc/PID/stat` counts in these; the same on every Linux.
const TICKS_PER_S: f64 = 100.0;

/// One figure.
#[derive(Debug, Serialize)]
pub struct InsertResult {
    bench: &'static str,
    rows: usize,
    batch_rows: usize,
    /// With the rollups that hang on the table.
    rollups: bool,
    /// From the first record to the last answer.
    rows_per_s: f64,
    /// CPU of the thread that encodes.
    encode_ns_per_row: f64,
    /// CPU of this process, encoding included.
    agent_ns_per_row: f64,
    /// CPU of the engine's process for 1,000,000 rows, merges meanwhile included.
    engine_cpu_s_per_million: f64,
    /// Octets of a block.
    block_bytes_per_row: f64,
    /// Octets on disk once all parts are merged.
    disk_bytes_per_row: f64,
    /// Median and longest time of one insert.
    insert_ms: f64,
    max_insert_ms: f64,
}

impl InsertResult {
    /// For people.
    pub fn line(&self) -> String {
        format!(
            "insert  {:>9} rows, batches of {:>7}, {}: {:.2} M rows a second; agent {:.0} ns a row \
             (encoding {:.0}), engine {:.2} s a million; {:.0} octets a row sent, {:.1} on disk; \
             an insert {:.0} ms, at most {:.0}",
            self.rows,
            self.batch_rows,
            if self.rollups { "with rollups" } else { "no rollups" },
            self.rows_per_s / 1e6,
            self.agent_ns_per_row,
            self.encode_ns_per_row,
            self.engine_cpu_s_per_million,
            self.block_bytes_per_row,
            self.disk_bytes_per_row,
            self.insert_ms,
            self.max_insert_ms,
        )
    }
}

/// Measures each size of batches, in a new store each.
pub fn measure(
    total: usize,
    rollups: bool,
    mut result: impl FnMut(InsertResult),
) -> Result<(), Error> {
    let records = rows::records(total, 17, wall_clock());
    for batch_rows in BATCHES {
        result(one(&records, batch_rows.min(total), rollups)?);
    }
    Ok(())
}

fn one(records: &[FlowRecord], batch_rows: usize, rollups: bool) -> Result<InsertResult, Error> {
    let folder = tempfile::tempdir().map_err(failed)?;
    let program = std::env::current_exe().map_err(failed)?;
    let store = EmbeddedStore::start(&program, &folder.path().join("store"), STORE_DEADLINE)?;
    apply_schema(&program, &store)?;
    let client = Client::default()
        .with_url(store.url())
        .with_user(EmbeddedStore::USER)
        .with_password(store.password())
        .with_compression(Compression::None)
        .with_setting("async_insert", "0")
        .with_setting("insert_deduplicate", "1")
        .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1");
    // As in the agent: one thread encodes, one delivers.
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(failed)?;
    if !rollups {
        runtime.block_on(drop_views(&client))?;
    }
    // The first insert of an engine compiles and allocates what later ones find.
    let warm = batches(&records[..records.len().min(10_000)], 5_000);
    runtime.block_on(run(&client, warm))?;
    runtime.block_on(ask(&client, "TRUNCATE TABLE flow.flows"))?;

    let batches = batches(records, batch_rows);
    let (engine, agent) = (engine_cpu(store.pid())?, cpu_time(ClockId::ProcessCPUTime));
    let started = Instant::now();
    let sent = runtime.block_on(run(&client, batches))?;
    let took = started.elapsed();
    let agent = cpu_time(ClockId::ProcessCPUTime).saturating_sub(agent);
    let engine = engine_cpu(store.pid())? - engine;

    let stored = number(&runtime, &client, "SELECT count() FROM flow.flows")?;
    if stored != records.len() as u64 {
        return Err(failed(format!("{stored} of {} rows are stored", records.len())));
    }
    runtime.block_on(ask(&client, "OPTIMIZE TABLE flow.flows FINAL"))?;
    let disk = number(
        &runtime,
        &client,
        "SELECT sum(bytes_on_disk) FROM system.parts \
         WHERE database = 'flow' AND table = 'flows' AND active",
    )?;
    store.stop(STORE_DEADLINE)?;

    let a_row = 1.0 / records.len() as f64;
    let Sent { mut times, octets, encoding } = sent;
    times.sort();
    let ms = |time: Duration| rounded(time.as_secs_f64() * 1e3);
    Ok(InsertResult {
        bench: "insert",
        rows: records.len(),
        batch_rows,
        rollups,
        rows_per_s: rounded(records.len() as f64 / took.as_secs_f64()),
        encode_ns_per_row: rounded(encoding.as_nanos() as f64 * a_row),
        agent_ns_per_row: rounded(agent.as_nanos() as f64 * a_row),
        engine_cpu_s_per_million: rounded(engine * 1e6 * a_row),
        block_bytes_per_row: rounded(octets as f64 * a_row),
        disk_bytes_per_row: rounded(disk as f64 * a_row),
        insert_ms: ms(times[times.len() / 2]),
        max_insert_ms: ms(times[times.len() - 1]),
    })
}

/// What was sent.
struct Sent {
    /// Of each insert.
    times: Vec<Duration>,
    /// Of all blocks.
    octets: usize,
    /// CPU.
    encoding: Duration,
}

/// Records with what is known of them, before they are frozen.
fn batches(records: &[FlowRecord], batch_rows: usize) -> Vec<(&[FlowRecord], BatchLabels)> {
    records.chunks(batch_rows).map(|records| (records, rows::labels(records))).collect()
}

/// Freezes and inserts batches; no more than [`IN_FLIGHT`] are on their way.
async fn run(client: &Client, batches: Vec<(&[FlowRecord], BatchLabels)>) -> Result<Sent, Error> {
    let names = rows::names();
    let (room, mut inserts) = (Arc::new(Semaphore::new(IN_FLIGHT)), JoinSet::new());
    let (mut octets, mut encoding) = (0, Duration::ZERO);
    for (records, labels) in &batches {
        let started = cpu_time(ClockId::ThreadCPUTime);
        let exported_at = (wall_clock() / 1_000_000_000) as u32;
        let batch = FrozenBatch::of_flows(records, labels, &names, Uuid::now_v7(), exported_at);
        encoding += cpu_time(ClockId::ThreadCPUTime).saturating_sub(started);
        octets += batch.block.len();
        let place = room.clone().acquire_owned().await.map_err(failed)?;
        let client = client.clone();
        inserts.spawn(async move {
            let started = Instant::now();
            insert(&client, batch).await.map_err(failed)?;
            drop(place);
            Ok::<_, Error>(started.elapsed())
        });
    }
    let mut times = Vec::new();
    while let Some(time) = inserts.join_next().await {
        times.push(time.map_err(failed)??);
    }
    Ok(Sent { times, octets, encoding })
}

async fn insert(client: &Client, batch: FrozenBatch) -> clickhouse::error::Result<()> {
    let mut insert = client
        .insert_formatted_with(batch.insert_sql(DATABASE))
        .with_setting("insert_deduplication_token", batch.id.to_string());
    insert.send(batch.block).await?;
    insert.end().await
}

/// As a person would, so that the tables are the shipped ones.
fn apply_schema(program: &Path, store: &EmbeddedStore) -> Result<(), Error> {
    let address = store.url().trim_start_matches("http://");
    let url = format!("http://{}:{}@{address}", EmbeddedStore::USER, store.password());
    let output = Command::new(program).args(["schema", "apply", "--store", &url]).output();
    let output = output.map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(failed(format!("the schema cannot be applied: {}", words.trim())))
}

async fn drop_views(client: &Client) -> Result<(), Error> {
    let sql = "SELECT name FROM system.tables \
               WHERE database = 'flow' AND engine = 'MaterializedView'";
    let views: Vec<String> = client.query(sql).fetch_all().await.map_err(failed)?;
    for view in views {
        ask(client, &format!("DROP VIEW flow.{view} SYNC")).await?;
    }
    Ok(())
}

async fn ask(client: &Client, sql: &str) -> Result<(), Error> {
    client.query_raw(sql).execute().await.map_err(failed)
}

fn number(runtime: &tokio::runtime::Runtime, client: &Client, sql: &str) -> Result<u64, Error> {
    runtime.block_on(client.query(sql).fetch_one()).map_err(failed)
}

/// CPU time of a process and all its threads, s.
fn engine_cpu(pid: u32) -> Result<f64, Error> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).map_err(failed)?;
    // The name, in parentheses, may have anything in it; user and system time are the 12th and
    // 13th word after it.
    let after = text.rsplit_once(") ").map_or("", |(_, after)| after);
    let ticks: Vec<u64> =
        after.split(' ').skip(11).take(2).filter_map(|word| word.parse().ok()).collect();
    match ticks[..] {
        [user, system] => Ok((user + system) as f64 / TICKS_PER_S),
        _ => Err(failed(format!("{path} has no CPU times"))),
    }
}
