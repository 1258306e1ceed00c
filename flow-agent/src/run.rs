//! The live agent: every stage, from the hooks to the store, until it is told to stop.

use std::time::Instant;

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use tokio::sync::{mpsc, watch};

use crate::Error;
use crate::attach::{Hooks, Interface, Kernel, TableSize, resolve};
use crate::batch;
use crate::cache::{Cache, CacheConfig};
use crate::clock::wall_clock;
use crate::config::Config;
use crate::drain::{Balance, Drain};
use crate::latency::{Latency, Stage};
use crate::ledger::{Entry, Ledger};
use crate::row::Names;
use crate::sink::{Delivery, Outcome};
use crate::target::Store;

/// Batches that may wait for the store, at most [`crate::batch::BatchLimits::rows`] each.
const BATCH_QUEUE: usize = 64;
/// Messages of records that may wait for the batcher.
const RECORD_QUEUE: usize = 256;

/// Meters until `shutdown` gets a message; then everything that was metered is
/// in the store, or the error says how much is not.
///
/// # Errors
/// Something is missing at start (nothing is left attached), or the store did
/// not take everything at the end.
pub fn run(config: &Config, shutdown: &Receiver<()>) -> Result<(), Error> {
    let interfaces = resolve(&config.interfaces, config.attach)?;
    let cpus = crate::host::online_cpus();
    let seed = uuid::Uuid::now_v7().as_u64_pair().1 ^ u64::from(std::process::id()).rotate_left(40);
    let size = TableSize::for_budget(cpus, config.table_memory_bytes);
    let mut kernel = Kernel::load(size, seed)?;
    let mut drain = Drain::new(&mut kernel, interfaces.len())?;
    let mut kernel_log = KernelLog::new(&mut kernel);

    let store = Store::open(&config.store)?;
    let hooks = Hooks::attach(kernel, &interfaces)?;
    announce(&interfaces, size, &store);

    let ledger = Ledger::default();
    let latency = Latency::default();
    let names = Names {
        exporter: config.exporter.clone(),
        interfaces: interfaces.iter().map(ToString::to_string).collect(),
    };
    let (record_sender, record_receiver) = bounded(RECORD_QUEUE);
    let (batch_sender, batch_receiver) = mpsc::channel(BATCH_QUEUE);
    let (stopping_sender, stopping) = watch::channel(false);
    let cache_config = CacheConfig {
        shards: config.shards,
        max_flows: config.max_flows,
        timeouts: config.timeouts,
        seed,
    };
    let cache = Cache::start(&cache_config, &record_sender, &latency).map_err(Error::thread)?;
    drop(record_sender);
    let batcher = batch::start(
        config.batch,
        record_receiver,
        batch_sender,
        ledger.clone(),
        latency.clone(),
        wall_clock,
    )
    .map_err(Error::thread)?;
    let delivery = Delivery {
        store: store.new_client(),
        names,
        ledger: ledger.clone(),
        latency: latency.clone(),
        wall_clock,
        patience: config.stop_patience,
    };
    let delivery = delivery.start(batch_receiver, stopping).map_err(Error::thread)?;

    notify(sd_notify::NotifyState::Ready);
    let mut stage = DrainStage { deltas: Vec::new(), ledger: &ledger, latency: &latency, cache };
    let stopped = loop {
        match shutdown.recv_timeout(config.drain_interval) {
            Err(RecvTimeoutError::Timeout) => {
                if let Err(error) = stage.pass(&mut drain, hooks.kernel()) {
                    break Err(error);
                }
                kernel_log.flush();
            }
            Ok(()) | Err(RecvTimeoutError::Disconnected) => break Ok(()),
        }
    };

    notify(sd_notify::NotifyState::Stopping);
    tracing::info!("stopping: detaching, then everything goes to the store");
    let _ = stopping_sender.send(true);
    let kernel = hooks.detach();
    // Two passes, one for each generation: nothing fills them any more.
    let drained = stopped
        .and_then(|()| stage.pass(&mut drain, &kernel))
        .and_then(|()| stage.pass(&mut drain, &kernel));
    kernel_log.flush();
    let flows = stage.cache.stop();
    join(batcher);
    let outcome = join(delivery);
    store.close()?;
    tracing::debug!(?flows, "cache shards ended");
    drained?;
    report(&ledger, outcome)
}

/// From the kernel tables to the cache.
struct DrainStage<'a> {
    deltas: Vec<crate::delta::Delta>,
    ledger: &'a Ledger,
    latency: &'a Latency,
    cache: Cache,
}

impl DrainStage<'_> {
    fn pass(&mut self, drain: &mut Drain, kernel: &Kernel) -> Result<(), Error> {
        let started = Instant::now();
        self.deltas.clear();
        let balances = drain.drain(kernel, wall_clock, &mut self.deltas)?;
        self.latency.record(Stage::Drain, started.elapsed());
        for (number, balance) in balances.iter().enumerate() {
            post(self.ledger, number as u16, balance);
        }
        self.cache.update(&self.deltas);
        self.cache.expire(wall_clock());
        Ok(())
    }
}

/// Writes one interface's kernel balance into the ledger.
fn post(ledger: &Ledger, interface: u16, balance: &Balance) {
    ledger.add(interface, Entry::Seen, balance.seen);
    ledger.add(interface, Entry::Metered, balance.metered);
    ledger.add(interface, Entry::Drained, balance.metered);
    for (reason, count) in balance.not_metered.iter().enumerate() {
        ledger.add(interface, Entry::NotMetered(reason as u8), *count);
    }
    for (reason, count) in balance.lost.iter().enumerate() {
        ledger.add(interface, Entry::Lost(reason as u8), *count);
    }
    let (packets, octets) = balance.unaccounted();
    if (packets, octets) != (0, 0) {
        tracing::error!(interface, packets, octets, "the ledger does not balance: this is a bug");
    }
}

/// Says how it ended; an error when rows were left over.
fn report(ledger: &Ledger, outcome: Outcome) -> Result<(), Error> {
    let totals = ledger.totals();
    let packets = |entry| totals.get(&entry).map_or(0, |count| count.packets);
    let (unaccounted, _) = ledger.unaccounted();
    tracing::info!(
        seen = packets(Entry::Seen),
        metered = packets(Entry::Metered),
        acknowledged = packets(Entry::Acknowledged),
        unaccounted,
        rows = outcome.rows,
        "stopped; packets since the start"
    );
    match outcome.undelivered {
        None => Ok(()),
        Some((rows, source)) => {
            let (in_flight, _) = ledger.in_flight();
            debug_assert_eq!(in_flight, 0, "every record is acknowledged or counted as lost");
            Err(Error::Undelivered { rows, source })
        }
    }
}

fn announce(interfaces: &[Interface], size: TableSize, store: &Store) {
    for interface in interfaces {
        let ingress = match interface.mode {
            crate::attach::AttachMode::Xdp => "XDP",
            crate::attach::AttachMode::XdpGeneric => "generic XDP",
            _ => "TC",
        };
        let egress = if interface.loopback { "" } else { ", egress by TC" };
        tracing::info!("metering {interface}: ingress by {ingress}{egress}");
    }
    tracing::info!(
        "kernel tables: {} MiB for {} CPUs; store: {}",
        size.bytes() >> 20,
        size.cpus,
        store.address()
    );
}

fn join<T>(thread: std::thread::JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Tells systemd, if it started the agent.
fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("the service manager cannot be told: {error}");
    }
}

/// The kernel side's own log lines, if it can log.
struct KernelLog(Option<aya_log::EbpfLogger<&'static dyn log::Log>>);

impl KernelLog {
    fn new(kernel: &mut Kernel) -> Self {
        match aya_log::EbpfLogger::init(&mut kernel.ebpf) {
            Ok(logger) => Self(Some(logger)),
            Err(error) => {
                tracing::warn!("no log from the kernel side: {error}");
                Self(None)
            }
        }
    }

    fn flush(&mut self) {
        if let Some(logger) = &mut self.0 {
            logger.flush();
        }
    }
}
