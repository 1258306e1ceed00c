//! Replay: captures through the same parser, cache and sinks as live traffic.
//!
//! The capture's clock is the only clock: the same captures and options give
//! byte-identical JSON lines.

pub mod capture;
mod fragments;
mod meter;
mod output;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::collections::BTreeMap;

use self::capture::{Capture, CaptureError, End, LinkType};
use self::meter::CaptureMeter;
use crate::Exit;
use crate::cache::Timeouts;
use crate::ledger::{Entry, Ledger};
use crate::sink::SinkError;

pub use output::{Output, OutputTarget};

/// Why a capture cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// Its packets begin with something that the parser does not know.
    #[error(
        "{file}: link type {link} of interface '{interface}' is not supported; supported: \
         ETHERNET, RAW, IPV4, IPV6, LINUX_SLL, LINUX_SLL2, NULL, LOOP"
    )]
    LinkType {
        /// The capture.
        file: String,
        /// The interface in it.
        interface: String,
        /// Its link type.
        link: LinkType,
    },
    /// It has more interfaces than flows can name.
    #[error("{file} has more than 65,535 interfaces; split it by interface")]
    Interfaces {
        /// The capture.
        file: String,
    },
    /// The store did not take everything.
    #[error("{rows} flow records are not in the store: {source}")]
    Undelivered {
        /// Rows that are missing.
        rows: u64,
        /// The last error.
        source: SinkError,
    },
    /// The ledger file cannot be written.
    #[error("the ledger {path} cannot be written: {source}")]
    Ledger {
        /// Where.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The operating system refuses a thread.
    #[error("the operating system refuses a thread: {source}; see ulimit -u")]
    Thread {
        /// Why.
        source: std::io::Error,
    },
}

impl ReplayError {
    /// The process exit code for this error.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Capture(error) => error.exit(),
            Self::LinkType { .. } | Self::Interfaces { .. } => Exit::Usage,
            Self::Undelivered { source, .. } => source.exit(),
            Self::Ledger { .. } | Self::Thread { .. } => Exit::Failed,
        }
    }
}

/// What `flow-agent replay` does.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Captures, in order; `-` is the standard input.
    pub files: Vec<PathBuf>,
    /// Where records go.
    pub output: OutputTarget,
    /// Where the ledger goes, if anywhere.
    pub ledger: Option<PathBuf>,
    /// Name of the exporter in the rows.
    pub exporter: String,
    /// Open flows at one time.
    pub max_flows: usize,
    /// On the capture's clock.
    pub timeouts: Timeouts,
}

/// The ledger as JSON; the keys are a contract.
#[derive(Debug, Serialize)]
struct LedgerFile {
    packets_seen: u64,
    packets_metered: u64,
    packets_not_metered: BTreeMap<&'static str, u64>,
    packets_lost: BTreeMap<&'static str, u64>,
    packets_unaccounted: i64,
    octets_metered: u64,
    flows_emitted: u64,
}

impl Replay {
    /// Replays everything.
    ///
    /// # Errors
    /// A capture, the output or the ledger file cannot be used; an output file
    /// is only written when all captures were read.
    pub fn run(&self) -> Result<(), crate::Error> {
        // Refuse what cannot be opened before any work is done.
        let first = self.files.first().map(|file| Capture::open(file)).transpose()?;
        let ledger = Ledger::default();
        let mut output = Output::open(&self.output, &self.exporter, &ledger)?;
        let mut meter = CaptureMeter::new(self.max_flows, self.timeouts);
        let mut flows = 0u64;
        let mut opened = first;
        for file in &self.files {
            let mut capture = match opened.take() {
                Some(capture) => capture,
                None => Capture::open(file)?,
            };
            let bar = progress_bar(&capture);
            meter.capture(
                &mut capture,
                |octets| bar.set_position(octets),
                |records, interfaces| {
                    flows += records.len() as u64;
                    ledger.add_records(records.iter(), Entry::Metered);
                    output.take(records, interfaces)
                },
            )?;
            bar.finish_and_clear();
            if let Some(end @ (End::Truncated { .. } | End::Corrupt { .. })) = capture.end() {
                tracing::warn!("{}: {end}; what comes before was metered", capture.file());
            }
        }
        meter.finish(|records, interfaces| {
            flows += records.len() as u64;
            ledger.add_records(records.iter(), Entry::Metered);
            output.take(records, interfaces)
        })?;
        meter.post(&ledger);
        output.finish(meter.interfaces())?;
        if meter.fragments_without_ports() > 0 {
            tracing::info!(
                "{} fragments came without their first fragment and have ports 0",
                meter.fragments_without_ports()
            );
        }
        match &self.ledger {
            Some(path) => Ok(write_ledger(path, &ledger, flows)?),
            None => Ok(()),
        }
    }
}

fn write_ledger(path: &Path, ledger: &Ledger, flows: u64) -> Result<(), ReplayError> {
    let mut file = LedgerFile {
        packets_seen: 0,
        packets_metered: 0,
        packets_not_metered: BTreeMap::new(),
        packets_lost: BTreeMap::new(),
        packets_unaccounted: ledger.unaccounted().0,
        octets_metered: 0,
        flows_emitted: flows,
    };
    for (entry, count) in ledger.totals() {
        let (_, reason) = entry.labels();
        match entry {
            Entry::Seen => file.packets_seen = count.packets,
            Entry::Metered => {
                file.packets_metered = count.packets;
                file.octets_metered = count.octets;
            }
            Entry::NotMetered(_) => {
                file.packets_not_metered.insert(reason, count.packets);
            }
            Entry::Lost(_) => {
                file.packets_lost.insert(reason, count.packets);
            }
            Entry::Drained
            | Entry::Acknowledged
            | Entry::LostRecord(_)
            | Entry::FragmentWithoutPorts => {}
        }
    }
    serde_json::to_string(&file)
        .map_err(std::io::Error::from)
        .and_then(|text| std::fs::write(path, text + "\n"))
        .map_err(|source| ReplayError::Ledger { path: path.display().to_string(), source })
}

/// A bar on a terminal, nothing elsewhere.
fn progress_bar(capture: &Capture) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = match capture.file_octets() {
        Some(octets) => ProgressBar::new(octets).with_style(
            ProgressStyle::with_template(
                "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            )
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
        ),
        None => ProgressBar::no_length().with_style(
            ProgressStyle::with_template("{msg} {spinner} {bytes} {bytes_per_sec}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        ),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
    bar.set_message(capture.file().to_string());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
