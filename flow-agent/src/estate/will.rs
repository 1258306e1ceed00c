//! What an agent that was killed left, read by the next one.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use flow_common::Count;
use uuid::Uuid;

use super::counts::Saved;
use super::memory::Memory;
use super::slots::{Found, Slots};
use super::{Beginning, Side, State};
use crate::ledger::{Counts, Entry};

/// An estate as it was found: of each state the one in force, and perhaps another one, of which
/// its witness must say whether it counts.
#[derive(Debug)]
pub struct Remains {
    kernel: State,
    delivery: Either,
    written: Either,
}

#[derive(Debug)]
struct Either {
    state: State,
    prepared: Option<(State, u128)>,
}

/// What a dead agent left, for certain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Will {
    /// What was counted and is in no batch of the table `ledger`.
    pub unwritten: Counts,
    /// What it had taken over, from the kernel or from an agent before it, and was neither in the
    /// store nor lost: in its cache, in its batches, in its spool.
    pub held: BTreeMap<Arc<str>, Count>,
}

impl Remains {
    /// Reads an estate; none if the agent was killed before it had one. `drained` says whether the
    /// kernel tables of an instance are not being drained any more.
    ///
    /// # Errors
    /// It cannot be read, or an agent of another version left it.
    pub fn read(
        memory: Box<dyn Memory>,
        drained: impl Fn(u32) -> bool,
    ) -> io::Result<Option<Self>> {
        let parts = Slots::divide(memory, Side::ALL.len());
        let part = |side: Side| -> io::Result<Either> {
            match parts[side as usize].read()? {
                Some(found) => Either::decode(&found),
                None => Ok(Either { state: State::default(), prepared: None }),
            }
        };
        let (kernel, delivery) = (part(Side::Kernel)?, part(Side::Delivery)?);
        if delivery.state.beginning.is_none() {
            return Ok(None);
        }
        let kernel = kernel.choose(|instance| drained(instance as u32));
        Ok(Some(Self { kernel, delivery, written: part(Side::Written)? }))
    }

    /// How that agent began.
    pub fn beginning(&self) -> &Beginning {
        static NONE: std::sync::LazyLock<Beginning> = std::sync::LazyLock::new(Beginning::default);
        self.delivery.state.beginning.as_ref().unwrap_or(&NONE)
    }

    /// Its spool; none: in memory.
    pub fn spool(&self) -> Option<&PathBuf> {
        self.beginning().spool.as_ref()
    }

    /// What it left. `waits` says whether its spool has a batch.
    pub fn will(self, waits: impl Fn(Uuid) -> bool) -> Will {
        let waits = |token| waits(Uuid::from_u128(token));
        let delivery = self.delivery.choose(|token| !waits(token));
        let settled = delivery.books;
        // It is in the spool, or was there and has been settled, or it never got there.
        let written = self.written.choose(|token| waits(token) || settled >= token);
        let inherited = delivery.beginning.map(|it| it.inherited).unwrap_or_default();
        let mut all = [self.kernel.counts, delivery.counts, inherited, written.counts];
        if all.iter().any(Saved::is_summed) {
            all.iter_mut().for_each(Saved::sum_up);
        }
        let [kernel, delivery, inherited, written] = all.map(|saved| saved.counts());
        let mut held: BTreeMap<Arc<str>, (i64, i64)> = BTreeMap::new();
        let mut unwritten: BTreeMap<(Arc<str>, Entry), (i64, i64)> = BTreeMap::new();
        for (counts, own, sign) in [
            (&kernel, true, 1),
            (&delivery, true, 1),
            (&inherited, false, 1),
            (&written, false, -1),
        ] {
            for ((interface, entry), count) in counts {
                let (packets, octets) = (count.packets as i64, count.octets as i64);
                let line = unwritten.entry((interface.clone(), *entry)).or_default();
                *line = (line.0 + sign * packets, line.1 + sign * octets);
                if own {
                    let sign = entry.in_flight();
                    let held = held.entry(interface.clone()).or_default();
                    *held = (held.0 + sign * packets, held.1 + sign * octets);
                }
            }
        }
        Will { unwritten: positive(unwritten), held: positive(held) }
    }
}

impl Either {
    fn decode(found: &Found) -> io::Result<Self> {
        let state = decode(&found.state)?;
        let prepared = match &found.prepared {
            Some((octets, token)) => Some((decode(octets)?, *token)),
            None => None,
        };
        Ok(Self { state, prepared })
    }

    fn choose(self, done: impl FnOnce(u128) -> bool) -> State {
        match self.prepared {
            // Without a witness the posting is the event, and it was not over.
            Some((prepared, token)) if token != 0 && done(token) => prepared,
            _ => self.state,
        }
    }
}

fn decode(octets: &[u8]) -> io::Result<State> {
    if octets.is_empty() {
        return Ok(State::default());
    }
    postcard::from_bytes(octets)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

fn positive<K: Ord>(lines: BTreeMap<K, (i64, i64)>) -> BTreeMap<K, Count> {
    let count = |(packets, octets): (i64, i64)| Count {
        packets: packets.max(0) as u64,
        octets: octets.max(0) as u64,
    };
    let lines = lines.into_iter().map(|(key, line)| (key, count(line)));
    lines.filter(|(_, count)| *count != Count::default()).collect()
}
