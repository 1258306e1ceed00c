//! Metering captures: packets in, flow records out, on the capture's clock.
//!
//! Flows are in lanes, by the hash of their key; see [`super::rounds`] for how threads share the
//! work. It holds that the same packets give the same records in the same order, however many
//! threads there are.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crossbeam::channel::bounded;
use flow_common::Options;

use super::ReplayError;
use super::capture::Capture;
use super::lane::Lane;
use super::parsed::Parser;
use super::reading::Reading;
use super::rounds::{InOrder, Rounds, lock};
use crate::cache::{FlowHasher, Limits, Shard, ShardStats, Timeouts};
use crate::ledger::{Entry, Ledger};
use crate::record::FlowRecord;

/// Parts of the flows, each metered by one thread at a time.
const LANES: usize = 8;

/// With room for fewer flows there is one lane, so that of all flows those leave early that were
/// used least recently.
const LEAST_SHARED_FLOWS: usize = 1 << 16;

/// TCP connections whose flows have left, and whose sequence numbers are remembered, at least.
const CONNECTIONS: usize = 1 << 18;

/// The seed is fixed: a replay gives the same rows each time.
const SEED: u64 = 0;

/// What rounds emitted and is not taken yet.
const AHEAD: usize = 2;

/// Meters captures one after the other; flows may go on from one to the next.
pub struct CaptureMeter {
    reading: Reading,
    in_order: InOrder,
    parser: Parser,
    lanes: Vec<Mutex<Lane>>,
    max_flows: usize,
    threads: NonZeroUsize,
}

impl CaptureMeter {
    /// A meter that has seen nothing, with as many threads as there are processors. With
    /// `decapsulate`, packets in tunnels are metered as what the tunnels carry.
    pub fn new(max_flows: usize, timeouts: Timeouts, decapsulate: bool) -> Self {
        let lanes = if max_flows < LEAST_SHARED_FLOWS { 1 } else { LANES };
        let lane = || {
            // Some lanes have more than others.
            let shard = Shard::new(Limits::new(max_flows, timeouts), SEED)
                .following_segments(CONNECTIONS / lanes * 5 / 4);
            Mutex::new(Lane::new(shard))
        };
        Self {
            reading: Reading::default(),
            in_order: InOrder::default(),
            parser: Parser {
                options: Options { decapsulate, super_packet: false },
                hasher: FlowHasher::new(SEED),
                lanes,
            },
            lanes: (0..lanes).map(|_| lane()).collect(),
            max_flows,
            threads: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        }
    }

    /// The same with so many threads; there is no use in more than 8.
    #[must_use]
    pub fn with_threads(self, threads: NonZeroUsize) -> Self {
        Self { threads, ..self }
    }

    /// Threads that it works with.
    pub fn threads(&self) -> usize {
        self.threads.get().min(LANES)
    }

    /// Names of the interfaces so far.
    pub fn interfaces(&self) -> &[Arc<str>] {
        self.reading.interfaces()
    }

    /// What its flow cache has done.
    pub fn stats(&self) -> ShardStats {
        let mut sum = ShardStats::default();
        for lane in &self.lanes {
            sum.merge(&lock(lane).shard.stats());
        }
        ShardStats { max_flows: self.max_flows as u64, ..sum }
    }

    /// Later fragments that were metered with ports 0.
    pub fn fragments_without_ports(&self) -> u64 {
        self.in_order.fragments.without_ports
    }

    /// Meters a whole capture. `out` is given the records as they end, `progress`
    /// the octets of the file read so far.
    ///
    /// # Errors
    /// The file cannot be read or has an unsupported link type, or `out` fails, or the system
    /// refuses a thread.
    pub fn capture(
        &mut self,
        capture: &mut Capture,
        mut progress: impl FnMut(u64),
        mut out: impl FnMut(&mut Vec<FlowRecord>, &[Arc<str>]) -> Result<(), ReplayError>,
    ) -> Result<(), ReplayError> {
        let threads = self.threads();
        let Self { reading, in_order, parser, lanes, max_flows, .. } = self;
        let (sender, emitted) = bounded(AHEAD);
        let lanes = (lanes.as_slice(), *max_flows);
        let rounds = Rounds::new(capture, reading, in_order, parser, lanes, sender);
        let kept = thread::scope(|scope| {
            for number in 0..threads {
                let thread = thread::Builder::new().name(format!("replay-{number}"));
                match thread.spawn_scoped(scope, || rounds.work()) {
                    Ok(_) => {}
                    Err(source) if number == 0 => return Err(ReplayError::Thread { source }),
                    // Fewer do the same.
                    Err(_) => break,
                }
            }
            // Dropped when a round cannot be kept: then no other is begun.
            for mut round in emitted {
                progress(round.octets_read);
                for records in round.records.iter_mut().filter(|records| !records.is_empty()) {
                    out(records, &round.interfaces)?;
                }
            }
            Ok(())
        });
        kept.and(rounds.end())
    }

    /// Emits every open flow.
    ///
    /// # Errors
    /// `out` fails.
    pub fn finish(
        &mut self,
        mut out: impl FnMut(&mut Vec<FlowRecord>, &[Arc<str>]) -> Result<(), ReplayError>,
    ) -> Result<(), ReplayError> {
        let share = self.lanes.len().div_ceil(self.threads());
        thread::scope(|scope| {
            for lanes in self.lanes.chunks(share) {
                let flush = move || {
                    for lane in lanes {
                        let lane = &mut *lock(lane);
                        lane.shard.flush(&mut lane.records);
                    }
                };
                if thread::Builder::new().spawn_scoped(scope, flush).is_err() {
                    flush();
                }
            }
        });
        for lane in &mut self.lanes {
            let lane = lane.get_mut().unwrap_or_else(PoisonError::into_inner);
            out(&mut std::mem::take(&mut lane.records), self.reading.interfaces())?;
        }
        Ok(())
    }

    /// Writes what was seen into the ledger.
    pub fn post(&self, ledger: &Ledger) {
        for (name, counts) in self.reading.interfaces().iter().zip(&self.in_order.counts) {
            ledger.add(name, Entry::Seen, counts.seen());
            ledger.add(name, Entry::Drained, counts.metered);
            for (reason, count) in counts.not_metered.iter().enumerate() {
                ledger.add(name, Entry::NotMetered(reason as u8), *count);
            }
        }
    }
}

#[cfg(test)]
#[path = "meter_tests.rs"]
mod tests;
