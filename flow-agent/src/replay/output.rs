//! Where a replay's records go: sorted JSON lines, or batches into a store.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use uuid::Uuid;

use super::ReplayError;
use super::destination::Destination;
use super::lines;
use crate::batch::{MOST_OCTETS, within};
use crate::books::Books;
use crate::clock::wall_clock;
use crate::enrich::{BatchLabels, Enricher};
use crate::frozen::FrozenBatch;
use crate::latency::Latency;
use crate::ledger::{Entry, Ledger};
use crate::names::Names;
use crate::record::FlowRecord;
use crate::sink::{
    AccessConfig, Delivery, DeliveryBook, LastBooks, Limits, Outcome, SinkError, StoreTarget,
};
use crate::spool::{Full, Spool, SpoolSettings, SpoolWriter, Waits};
use crate::target::{Opening, Store};

/// Rows of a batch. The labels of all its rows are of one moment, so that their number decides
/// nothing but speed.
const BATCH_ROWS: usize = 50_000;

/// What `--output` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputTarget {
    /// `jsonl:FILE`, `-` for the standard output.
    JsonLines(PathBuf),
    /// `embedded:DIR` or `clickhouse:URL`.
    Store(StoreTarget),
}

impl FromStr for OutputTarget {
    type Err = SinkError;

    fn from_str(text: &str) -> Result<Self, SinkError> {
        match text.strip_prefix("jsonl:") {
            Some("") => Err(bad_output(text, "the file is missing".into())),
            Some(path) => Ok(Self::JsonLines(path.into())),
            None => text.parse().map(Self::Store).map_err(|error| match error {
                SinkError::BadAddress { address, problem, .. } => bad_output(&address, problem),
                error => error,
            }),
        }
    }
}

fn bad_output(address: &str, problem: String) -> SinkError {
    SinkError::BadAddress {
        what: "output",
        address: address.into(),
        problem,
        forms: "jsonl:FILE, jsonl:-, clickhouse:http://HOST:PORT[/DATABASE] or embedded:DIR",
    }
}

impl OutputTarget {
    /// Refuses a file that cannot be written.
    ///
    /// # Errors
    /// It cannot.
    pub fn check(&self) -> Result<CheckedOutput<'_>, ReplayError> {
        match self {
            Self::JsonLines(path) => Ok(CheckedOutput::File(Destination::check("output", path)?)),
            Self::Store(target) => Ok(CheckedOutput::Store(target)),
        }
    }
}

/// An output before the work begins.
pub enum CheckedOutput<'a> {
    /// It can be written.
    File(Destination),
    /// Not looked at yet: looking may start it.
    Store(&'a StoreTarget),
}

impl CheckedOutput<'_> {
    /// The file, if it is one.
    pub fn file(&self) -> Option<&Destination> {
        match self {
            Self::File(destination) => Some(destination),
            Self::Store(_) => None,
        }
    }

    /// Opens it; so many threads may format lines.
    ///
    /// # Errors
    /// The store cannot be reached or refuses the schema.
    pub fn open(
        self,
        access: &AccessConfig,
        exporter: &str,
        enricher: Option<Enricher>,
        ledger: &Ledger,
        threads: usize,
    ) -> Result<Output, crate::Error> {
        match self {
            Self::File(destination) => Ok(Output::JsonLines(Box::new(JsonOutput {
                destination,
                exporter: exporter.into(),
                enricher,
                records: Vec::new(),
                threads,
            }))),
            Self::Store(target) => Ok(Output::Store(Box::new(StoreOutput {
                store: Store::open(
                    target,
                    &Opening { access: access.clone(), exporter, ..Opening::default() },
                )?,
                exporter: exporter.into(),
                enricher,
                ledger: ledger.clone(),
                open: Vec::new(),
                lane: None,
            }))),
        }
    }
}

/// A replay's open output.
pub enum Output {
    /// Everything is kept until the end: the lines are sorted.
    JsonLines(Box<JsonOutput>),
    /// Batches are inserted while the capture is read.
    Store(Box<StoreOutput>),
}

/// Records that wait to be sorted.
pub struct JsonOutput {
    destination: Destination,
    exporter: String,
    enricher: Option<Enricher>,
    /// As they came.
    records: Vec<Vec<FlowRecord>>,
    threads: usize,
}

/// Batches on their way into a store.
pub struct StoreOutput {
    store: Store,
    exporter: String,
    enricher: Option<Enricher>,
    ledger: Ledger,
    open: Vec<FlowRecord>,
    /// Made with the first batch.
    lane: Option<Lane>,
}

/// One delivery. Batches go from this thread into a spool in memory.
struct Lane {
    writer: SpoolWriter,
    last: LastBooks,
    delivery: JoinHandle<Outcome>,
    _stopping: watch::Sender<bool>,
}

impl Output {
    /// Takes records.
    ///
    /// # Errors
    /// The store refused earlier ones.
    pub fn take(
        &mut self,
        records: &mut Vec<FlowRecord>,
        interfaces: &[Arc<str>],
    ) -> Result<(), ReplayError> {
        match self {
            Self::JsonLines(output) => output.records.push(std::mem::take(records)),
            Self::Store(output) => {
                output.open.append(records);
                if output.open.len() >= BATCH_ROWS {
                    output.send(interfaces)?;
                }
            }
        }
        Ok(())
    }

    /// Writes or commits everything.
    ///
    /// # Errors
    /// The file cannot be written, or the store did not take everything.
    pub fn finish(self, interfaces: &[Arc<str>]) -> Result<(), crate::Error> {
        match self {
            Self::JsonLines(output) => {
                let JsonOutput { destination, exporter, enricher, records, threads } = *output;
                let mut rows = lines::sorted(&records);
                let names = Arc::new(Names::new(&exporter, interfaces));
                let in_order: Vec<FlowRecord>;
                let mut labels = None;
                if let Some(mut enricher) = enricher {
                    in_order = rows.into_iter().cloned().collect();
                    labels = Some(enricher.label(&in_order, &names, Instant::now()));
                    rows = in_order.iter().collect();
                }
                let written = destination
                    .write(|out| lines::write(out, &rows, labels.as_ref(), &names, threads));
                let path = destination.name();
                Ok(written.map_err(|source| SinkError::Output { path, source })?)
            }
            Self::Store(mut output) => {
                output.send(interfaces)?;
                output.settle()?;
                output.store.close()
            }
        }
    }
}

impl StoreOutput {
    /// Freezes what is open; waits while too many batches are on their way.
    fn send(&mut self, interfaces: &[Arc<str>]) -> Result<(), ReplayError> {
        let mut lane = match self.lane.take() {
            Some(lane) => lane,
            None => self.lane()?,
        };
        if !self.open.is_empty() {
            let names = Arc::new(Names::new(&self.exporter, interfaces));
            let records = std::mem::take(&mut self.open);
            for batch in frozen(&records, &names, self.enricher.as_mut(), wall_clock()) {
                self.ledger.add_losses(&lane.writer.append(batch).lost);
            }
        }
        let abandoned = lane.writer.is_abandoned();
        self.lane = Some(lane);
        // There is no use in reading on.
        if abandoned { self.settle() } else { Ok(()) }
    }

    fn lane(&self) -> Result<Lane, ReplayError> {
        /// Batches on their way, beside those that are being sent: a few.
        const MEMORY: u64 = 64 << 20;
        const IN_FLIGHT: usize = 2;
        let thread = |source| ReplayError::Thread { source };
        let settings = SpoolSettings {
            dir: None,
            memory_octets: MEMORY,
            full: Full::Block,
            ..SpoolSettings::default()
        };
        // A replay does not wait for a store for ever.
        let (stopping_sender, stopping) = watch::channel(true);
        let waits = Waits { stopping: stopping.clone(), patience: Duration::MAX };
        let (writer, reader, _) = Spool::open(&settings, waits).map_err(ReplayError::Spool)?;
        let latency = Latency::of_replay();
        let exporter = self.exporter.clone();
        let delivery = Delivery {
            store: self.store.endpoints(),
            schema: self.store.schema().clone(),
            in_flight: IN_FLIGHT,
            quarantine: None,
            ledger: self.ledger.clone(),
            latency: latency.clone(),
            books: Books { ledger: self.ledger.clone(), latency, exporter },
            size: None,
            book: DeliveryBook::new(wall_clock()),
            wall_clock,
            limits: Limits { idle: PATIENCE, total: None },
        };
        let (delivery, last) = delivery.start(reader, stopping).map_err(thread)?;
        Ok(Lane { writer, last, delivery, _stopping: stopping_sender })
    }

    /// Waits until everything sent is acknowledged.
    fn settle(&mut self) -> Result<(), ReplayError> {
        let Some(Lane { writer, last, delivery, .. }) = self.lane.take() else { return Ok(()) };
        // A delivery that has ended needs it no more.
        let _ = last.send(writer);
        let outcome = delivery.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let Some(source) = outcome.given_up else { return Ok(()) };
        let lost = self.ledger.totals();
        let lost = lost.iter().filter(|(entry, _)| matches!(entry, Entry::LostRecord(_)));
        let packets = lost.map(|(_, count)| count.packets).sum();
        Err(ReplayError::Undelivered { packets, source })
    }
}

/// The records in batches that the store takes whole; the labels of all are of one moment.
fn frozen(
    records: &[FlowRecord],
    names: &Arc<Names>,
    mut enricher: Option<&mut Enricher>,
    now_ns: u64,
) -> impl Iterator<Item = FrozenBatch> {
    let (now, exported_at) = (Instant::now(), (now_ns / 1_000_000_000) as u32);
    records.chunks(BATCH_ROWS).flat_map(move |records| {
        let labels = enricher
            .as_mut()
            .map_or_else(BatchLabels::default, |enricher| enricher.label(records, names, now));
        let id = Uuid::now_v7();
        within(MOST_OCTETS, FrozenBatch::of_flows(records, &labels, names, id, exported_at))
    })
}

/// How long a store may take nothing.
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    /// Most flows may end at once, with the capture.
    #[test]
    fn any_number_of_records_becomes_batches_that_the_store_takes() {
        let records = vec![FlowRecord::example(1); 2 * BATCH_ROWS + 1];
        let names = Arc::new(Names::new("probe", &["made.pcap"]));
        let batches: Vec<_> = frozen(&records, &names, None, 7_000_000_000).collect();
        let rows: Vec<_> = batches.iter().map(|batch| batch.rows as usize).collect();
        assert_eq!(rows, [BATCH_ROWS, BATCH_ROWS, 1]);
        assert!(batches.iter().all(|batch| batch.exported_at == 7));
    }

    #[test]
    fn a_bad_output_names_every_form() {
        for text in ["foo", "rows.json", "clickhouse:127.0.0.1:8123", "jsonl:", "embedded:", ""] {
            let error = text.parse::<OutputTarget>().expect_err(text).to_string();
            for form in ["jsonl:FILE", "clickhouse:http://HOST", "embedded:DIR"] {
                assert!(error.contains(form), "{error}");
            }
        }
    }
}
