//! An independent count of every packet at an interface, against which the agent's
//! is compared: a packet socket read by a thread of its own.
//!
//! Enters: the frames of one interface, both directions. Leaves: packets and IP
//! octets on the wire by direction and flow. It is valid only with no drops.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

mod decode;
mod packet_socket;

pub use decode::{Count, Key};
use decode::{Decoded, Fragment, decode};
pub use packet_socket::PacketSocket;

use crate::lab::{Namespace, Side};

/// No packet for this long after the traffic means that the last one was seen.
const QUIET: Duration = Duration::from_millis(300);
/// A wire that does not become quiet in this time has unexpected traffic on it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which way packets passed the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Into the namespace.
    Ingress,
    /// Out of it.
    Egress,
}

/// Packets and octets by one-way flow.
pub type Flows = BTreeMap<Key, Count>;

/// What passed one interface.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// By flow, one direction each.
    pub flows: HashMap<(Direction, Key), Count>,
    /// All IP packets.
    pub total: Count,
    /// Super-packets that came in.
    pub super_ingress: u64,
    /// Super-packets that went out.
    pub super_egress: u64,
    /// Fragments that are not the first of their datagram.
    pub later_fragments: u64,
    /// Frames that are not IP.
    pub other: u64,
    /// Frames that the kernel had no room to give to the tally.
    pub drops: u64,
}

impl Counts {
    /// What came in, as if nothing had gone out: each packet of `lo` once.
    #[must_use]
    pub fn ingress(mut self) -> Self {
        self.super_egress = 0;
        self.only(Direction::Ingress)
    }

    /// What went out, as if nothing had come in.
    #[must_use]
    pub fn egress(mut self) -> Self {
        self.super_ingress = 0;
        self.only(Direction::Egress)
    }

    fn only(mut self, wanted: Direction) -> Self {
        self.flows.retain(|(direction, _), _| *direction == wanted);
        self.total = Count::default();
        self.flows.values().for_each(|count| self.total.add(*count));
        self
    }

    /// Adds one direction's flows up to a map by flow alone.
    pub fn by_key(&self) -> Flows {
        let mut flows = Flows::new();
        for ((_, key), count) in &self.flows {
            flows.entry(*key).or_default().add(*count);
        }
        flows
    }
}

/// A running tally.
#[derive(Debug)]
pub struct Tally {
    stop: Arc<AtomicBool>,
    octets: Arc<AtomicU64>,
    thread: JoinHandle<io::Result<Counts>>,
}

impl Tally {
    /// Starts counting at one end of the lab; when it returns, every packet counts.
    pub fn start(side: &Side) -> Result<Self> {
        Self::start_on(&side.namespace, side.interface)
    }

    /// Starts counting at any interface of a namespace.
    pub fn start_on(namespace: &Namespace, interface: &str) -> Result<Self> {
        let socket = namespace.enter(|| {
            PacketSocket::open(interface)
                .with_context(|| format!("cannot open a packet socket on {interface}"))
        })?;
        let (stop, octets) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = thread::spawn({
            let (stop, octets) = (Arc::clone(&stop), Arc::clone(&octets));
            move || count(socket, &stop, &octets)
        });
        Ok(Self { stop, octets, thread })
    }

    /// IP octets so far.
    pub fn octets(&self) -> u64 {
        self.octets.load(Ordering::Relaxed)
    }

    /// Waits until the wire is quiet and returns the counts; an error if any packet
    /// was dropped on the way to the tally.
    pub fn stop(self) -> Result<Counts> {
        self.stop.store(true, Ordering::Relaxed);
        let counts = self.thread.join().map_err(|_| anyhow::anyhow!("the tally panicked"))??;
        if counts.drops > 0 {
            bail!("the tally missed {} packets: pace the traffic", counts.drops);
        }
        Ok(counts)
    }
}

/// Waits until nothing has passed an interface of this thread's namespace for `quiet`.
pub fn wait_quiet(interface: &str, quiet: Duration) -> Result<()> {
    let mut socket = PacketSocket::open(interface)?;
    let started = Instant::now();
    let mut last = started;
    while last.elapsed() < quiet {
        if socket.receive()?.is_some() {
            last = Instant::now();
        }
        if started.elapsed() > PATIENCE {
            bail!("packets keep passing {interface}");
        }
    }
    Ok(())
}

fn count(mut socket: PacketSocket, stop: &AtomicBool, octets: &AtomicU64) -> io::Result<Counts> {
    let mut counts = Counts::default();
    // The ports of datagrams whose first fragment has passed.
    let mut fragmented: HashMap<(Direction, IpAddr, IpAddr, u32), (u16, u16)> = HashMap::new();
    let mut last = Instant::now();
    loop {
        let Some(frame) = socket.receive()? else {
            if stop.load(Ordering::Relaxed) && last.elapsed() >= QUIET {
                counts.drops = u64::from(socket.drops()?);
                return Ok(counts);
            }
            if !stop.load(Ordering::Relaxed) {
                last = Instant::now(); // the quiet time counts from the stop on
            }
            continue;
        };
        let Some(Decoded { mut key, count, fragment }) = decode(frame.bytes, frame.gso_size) else {
            counts.other += 1;
            continue;
        };
        last = Instant::now();
        let direction = if frame.outgoing { Direction::Egress } else { Direction::Ingress };
        if let Some(Fragment { datagram, first }) = fragment {
            let datagram = (direction, key.source, key.destination, datagram);
            if first {
                fragmented.insert(datagram, (key.source_port, key.destination_port));
            } else {
                counts.later_fragments += 1;
                if let Some(ports) = fragmented.get(&datagram) {
                    (key.source_port, key.destination_port) = *ports;
                }
            }
        }
        if frame.gso_size > 0 {
            match direction {
                Direction::Ingress => counts.super_ingress += 1,
                Direction::Egress => counts.super_egress += 1,
            }
        }
        counts.flows.entry((direction, key)).or_default().add(count);
        counts.total.add(count);
        octets.store(counts.total.octets, Ordering::Relaxed);
    }
}
