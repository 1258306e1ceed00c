//! Metering a capture: packets in, flow records out, on the capture's clock.
//!
//! One thread reads and parses, the calling one keeps the flows. It holds that the same packets
//! give the same records in the same order, whichever thread is the faster one.

use std::sync::Arc;
use std::thread;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::ReplayError;
use super::capture::Capture;
use super::reading::{Batch, Reading};
use crate::cache::{Chunk, Limits, Shard, Timeouts};
use crate::delta::Delta;
use crate::ledger::Ledger;
use crate::record::FlowRecord;

/// Flows are expired each time the capture's clock has moved this far.
const EXPIRY_STEP_NS: u64 = 100_000_000;

/// Batches that are read ahead.
const AHEAD: usize = 4;

/// Meters captures one after the other; flows may go on from one to the next.
pub struct CaptureMeter {
    reading: Reading,
    shard: Shard,
    expired_at_ns: u64,
    records: Vec<FlowRecord>,
}

impl CaptureMeter {
    /// A meter that has seen nothing. With `decapsulate`, packets in tunnels are metered as what
    /// the tunnels carry.
    pub fn new(max_flows: usize, timeouts: Timeouts, decapsulate: bool) -> Self {
        Self {
            reading: Reading::new(decapsulate),
            // The seed is fixed: a replay gives the same rows each time.
            shard: Shard::new(Limits::new(max_flows, timeouts), 0),
            expired_at_ns: 0,
            records: Vec::new(),
        }
    }

    /// Names of the interfaces so far.
    pub fn interfaces(&self) -> &[Arc<str>] {
        self.reading.interfaces()
    }

    /// What its flow cache has done.
    pub fn stats(&self) -> crate::cache::ShardStats {
        self.shard.stats()
    }

    /// Later fragments that were metered with ports 0.
    pub fn fragments_without_ports(&self) -> u64 {
        self.reading.fragments_without_ports()
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
        let Self { reading, shard, expired_at_ns, records } = self;
        let (batches, read): (Sender<Batch>, Receiver<Batch>) = bounded(AHEAD);
        let (empty, emptied): (Sender<Vec<Delta>>, _) = bounded(AHEAD + 2);
        thread::scope(|scope| {
            let reader =
                thread::Builder::new().name("read".into()).spawn_scoped(scope, move || {
                    reading.capture(capture, |batch| {
                        batches.send(batch).ok()?;
                        Some(emptied.try_recv().unwrap_or_default())
                    })
                });
            let reader = reader.map_err(|source| ReplayError::Thread { source })?;
            let mut kept = Ok(());
            for mut batch in &read {
                update(shard, expired_at_ns, &mut batch.deltas, records);
                progress(batch.octets_read);
                if !records.is_empty() {
                    kept = out(records, &batch.interfaces);
                    if kept.is_err() {
                        break;
                    }
                }
                // With no room for it there are enough.
                let _ = empty.try_send(batch.deltas);
            }
            // A reader that waits for room gives up.
            drop(read);
            let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            kept.and(read)
        })
    }

    /// Emits every open flow.
    ///
    /// # Errors
    /// `out` fails.
    pub fn finish(
        &mut self,
        mut out: impl FnMut(&mut Vec<FlowRecord>, &[Arc<str>]) -> Result<(), ReplayError>,
    ) -> Result<(), ReplayError> {
        self.shard.flush(&mut self.records);
        out(&mut self.records, self.reading.interfaces())
    }

    /// Writes what was seen into the ledger.
    pub fn post(&self, ledger: &Ledger) {
        self.reading.post(ledger);
    }
}

/// Adds packets to their flows, and ends flows as the clock goes on. Leaves the list empty.
fn update(
    shard: &mut Shard,
    expired_at_ns: &mut u64,
    deltas: &mut Vec<Delta>,
    records: &mut Vec<FlowRecord>,
) {
    let mut chunk = Chunk::default();
    for delta in deltas.iter() {
        let now = delta.last_ns;
        if now >= expired_at_ns.saturating_add(EXPIRY_STEP_NS) || now < *expired_at_ns {
            shard.update_chunk(&mut chunk, records);
            shard.expire(now, records);
            *expired_at_ns = now;
        }
        shard.push(delta, &mut chunk, records);
    }
    shard.update_chunk(&mut chunk, records);
    deltas.clear();
}
