//! The parts of the state that the cache and the enrichment have.

use std::time::{Duration, Instant};

use super::part::{Part, decode, encode};
use crate::cache::{CacheControl, Initiator, MOST_INITIATORS, Memory};
use crate::enrich::{Listener, Listeners, Seen};

/// How long a busy cache is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// A connection from before the start that has sent nothing for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(900);

/// Who began the connections that are open.
pub struct Initiators {
    control: CacheControl,
    memory: Memory,
    started: Instant,
}

impl Initiators {
    /// Those in this cache; `memory` is what its shards know at `now`.
    pub fn new(control: CacheControl, memory: Memory, now: Instant) -> Self {
        Self { control, memory, started: now }
    }
}

impl Part for Initiators {
    fn name(&self) -> &'static str {
        "initiators"
    }

    fn version(&self) -> u32 {
        1
    }

    fn save(&mut self) -> Option<Vec<u8>> {
        if self.started.elapsed() > FORGOTTEN_AFTER && self.memory.initiators().next().is_some() {
            self.memory = self.memory.clone().with([]);
            // A cache that does not answer now forgets it at the next saving.
            let _ = self.control.remember(&self.memory, PATIENCE);
        }
        let mut initiators = self.control.initiators(MOST_INITIATORS, PATIENCE).ok()?;
        // What has been silent since the start is remembered, too; what is open comes first.
        let room = MOST_INITIATORS.saturating_sub(initiators.len());
        initiators.splice(0..0, self.memory.initiators().copied().take(room));
        encode(&initiators)
    }

    fn restore(&mut self, octets: &[u8], _saved_at_ns: u64) -> Result<(), String> {
        let mut initiators: Vec<Initiator> = decode(octets)?;
        // Of two for one connection the last one counts.
        let excess = initiators.len().saturating_sub(MOST_INITIATORS);
        initiators.drain(..excess);
        self.memory = self.memory.clone().with(initiators);
        self.control.remember(&self.memory, PATIENCE).map_err(|error| error.to_string())
    }
}

/// The ports at which this host listens.
pub struct ListeningPorts {
    /// Them.
    pub listeners: Listeners,
    /// How long they are remembered.
    pub ttl: Duration,
}

impl Part for ListeningPorts {
    fn name(&self) -> &'static str {
        "listeners"
    }

    fn version(&self) -> u32 {
        1
    }

    fn save(&mut self) -> Option<Vec<u8>> {
        encode(&self.listeners.all())
    }

    fn restore(&mut self, octets: &[u8], saved_at_ns: u64) -> Result<(), String> {
        let listeners: Vec<(Listener, Seen)> = decode(octets)?;
        self.listeners.add(listeners, saved_at_ns / 1_000_000_000, self.ttl);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(100);

    #[test]
    fn listening_ports_come_back_but_for_what_was_seen_too_long_ago() {
        let listeners = Listeners::default();
        let listener = |port| Listener { namespace: "blue/".into(), protocol: 6, port };
        let seen = |at_s| Seen { unit: Some("a.service".into()), at_s };
        listeners.add([(listener(1), seen(10)), (listener(2), seen(90))], 90, TTL);
        let mut part = ListeningPorts { listeners, ttl: TTL };
        let octets = part.save().expect("known");
        let mut again = ListeningPorts { listeners: Listeners::default(), ttl: TTL };
        again.restore(&octets, 110_000_000_000).expect("whole");
        assert_eq!(again.listeners.all(), [(listener(2), seen(90))]);
        assert!(again.restore(&octets[1..], 0).is_err());
    }
}
