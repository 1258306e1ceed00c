//! Replay: captures through the same parser, cache and sinks as live traffic.
//!
//! The capture's clock is the only clock: the same captures and options give
//! byte-identical JSON lines.

mod agenda;
pub mod capture;
mod destination;
mod file_id;
mod fragments;
mod inputs;
mod lane;
mod lines;
mod meter;
mod metered;
mod output;
mod parsed;
mod reading;
mod rounds;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use self::capture::{Capture, CaptureError, End, LinkType};
use self::destination::Destination;
use self::inputs::Input;
use crate::Exit;
use crate::cache::Timeouts;
use crate::enrich::{Enricher, GeoFiles};
use crate::ledger::{Entry, Ledger};
use crate::sink::{AccessConfig, SinkError};

pub use meter::CaptureMeter;
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
    /// One file is used in two roles.
    #[error("{second} is the same file as {first}; give each file once")]
    SameFile {
        /// What it is used for.
        first: String,
        /// What it is used for, too.
        second: String,
    },
    /// A file that is to be written cannot be, found out before any work.
    #[error("the {role} {path} cannot be written: {source}; choose another file")]
    Destination {
        /// Output or ledger.
        role: &'static str,
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The store did not take everything.
    #[error("flow records of {packets} packets are not in the store: {source}")]
    Undelivered {
        /// Packets of the rows that are missing.
        packets: u64,
        /// The last error.
        source: SinkError,
    },
    /// The ledger file cannot be written.
    #[error("the ledger {path} cannot be written: {source}")]
    Ledger {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// What waits for the store cannot be held.
    #[error(transparent)]
    Spool(crate::spool::SpoolError),
    /// The operating system refuses a thread.
    #[error("the operating system refuses a thread: {source}; see ulimit -u")]
    Thread {
        /// Why.
        source: io::Error,
    },
}

impl ReplayError {
    /// The process exit code for this error.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Capture(error) => error.exit(),
            Self::LinkType { .. }
            | Self::Interfaces { .. }
            | Self::SameFile { .. }
            | Self::Destination { .. } => Exit::Usage,
            Self::Undelivered { source, .. } => source.exit(),
            Self::Spool(error) => error.exit(),
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
    /// How a store is reached.
    pub access: AccessConfig,
    /// Where the ledger goes, if anywhere.
    pub ledger: Option<PathBuf>,
    /// Name of the exporter in the rows.
    pub exporter: String,
    /// Meter packets in tunnels as what the tunnels carry.
    pub decapsulate: bool,
    /// Open flows at one time.
    pub max_flows: usize,
    /// On the capture's clock.
    pub timeouts: Timeouts,
    /// Files of addresses; nothing else is looked up.
    pub geoip: GeoFiles,
    /// Threads; as many as there are processors without.
    pub threads: Option<NonZeroUsize>,
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
    /// Captures that were metered only up to a cut or damage.
    captures_damaged: u64,
}

impl Replay {
    /// Replays everything.
    ///
    /// # Errors
    /// A capture, the output or the ledger file cannot be used; an output file
    /// is only written when all captures were read.
    pub fn run(&self) -> Result<(), crate::Error> {
        // Refuse what cannot be used before any work is done.
        let output = self.output.check()?;
        let ledger_to = match &self.ledger {
            Some(path) => Some(Destination::check("ledger", path)?),
            None => None,
        };
        let inputs = Input::check(&self.files, output.file(), ledger_to.as_ref())?;
        let ledger = Ledger::default();
        let enricher = match &self.geoip {
            files if files.is_empty() => None,
            files => Some(Enricher::of_files(files, Instant::now())?),
        };
        let mut meter = CaptureMeter::new(self.max_flows, self.timeouts, self.decapsulate);
        if let Some(threads) = self.threads {
            meter = meter.with_threads(threads);
        }
        let threads = meter.threads();
        let mut output = output.open(&self.access, &self.exporter, enricher, &ledger, threads)?;
        let (mut flows, mut damaged) = (0, 0);
        for mut input in inputs {
            let mut capture = input.open()?;
            let bar = progress_bar(&capture);
            meter.capture(
                &mut capture,
                |octets| bar.set_position(octets),
                |records, interfaces| {
                    flows += records.len() as u64;
                    ledger.add_records(
                        records.iter(),
                        |number| &interfaces[usize::from(number) - 1],
                        Entry::Metered,
                    );
                    output.take(records, interfaces)
                },
            )?;
            bar.finish_and_clear();
            if let Some(end @ (End::Truncated { .. } | End::Corrupt { .. })) = capture.end() {
                damaged += 1;
                tracing::warn!("{}: {end}; what comes before was metered", capture.file());
            }
        }
        meter.finish(|records, interfaces| {
            flows += records.len() as u64;
            ledger.add_records(
                records.iter(),
                |number| &interfaces[usize::from(number) - 1],
                Entry::Metered,
            );
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
        let Some(destination) = ledger_to else { return Ok(()) };
        let file = ledger_file(&ledger, flows, damaged);
        let written = destination.write(|out| {
            serde_json::to_writer(&mut *out, &file)?;
            out.write_all(b"\n")
        });
        Ok(written.map_err(|source| ReplayError::Ledger { path: destination.name(), source })?)
    }
}

fn ledger_file(ledger: &Ledger, flows: u64, damaged: u64) -> LedgerFile {
    let mut file = LedgerFile {
        packets_seen: 0,
        packets_metered: 0,
        packets_not_metered: BTreeMap::new(),
        packets_lost: BTreeMap::new(),
        packets_unaccounted: ledger.unaccounted().0,
        octets_metered: 0,
        flows_emitted: flows,
        captures_damaged: damaged,
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
            | Entry::Recovered
            | Entry::Spooled
            | Entry::LostRecord(_)
            | Entry::Resent(_)
            | Entry::FragmentWithoutPorts => {}
        }
    }
    file
}

/// A bar on a terminal, nothing elsewhere.
fn progress_bar(capture: &Capture) -> ProgressBar {
    if !io::stderr().is_terminal() {
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
