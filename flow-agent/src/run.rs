//! The live agent: every stage, from the hooks to the store, until it is told to stop.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{RecvTimeoutError, bounded};
use flow_common::{Count, Lost};
use tokio::sync::{mpsc, watch};

use crate::Error;
use crate::attach::{Hooks, IngressHook, Interface, Kernel, MAX_INTERFACES, TableSize, resolve};
use crate::batch;
use crate::cache::{Cache, CacheConfig, Intake};
use crate::clock::wall_clock;
use crate::config::{Config, Source};
use crate::drain::{self, Balance, Drain, FillLevel};
use crate::filter::OwnConnections;
use crate::host::online_cpus;
use crate::latency::{Latency, Stage};
use crate::ledger::{Entry, Ledger};
use crate::reload::Reloader;
use crate::row::Names;
use crate::shutdown::Requests;
use crate::sink::{Delivery, Outcome};
use crate::target::Store;

/// Batches that may wait for the store; the rows in them are bounded by `batch`.
const BATCH_QUEUE: usize = 1 << 16;
/// Messages of records that may wait for the batcher.
const RECORD_QUEUE: usize = 256;
/// How often the agent looks how full the kernel tables are.
pub(crate) const POLL: Duration = Duration::from_millis(10);
/// Drains that may fail one after the other before the agent stops.
const FAILED_DRAINS: u32 = 10;

/// Meters until told to stop; then everything that was metered is in the store,
/// or the error says how much is not. `shutdown` is asked for once the programs
/// are loaded, which must not be interrupted, and before anything is attached.
///
/// # Errors
/// Something is missing at start (nothing is left attached), or the store did
/// not take everything at the end.
pub fn run(
    source: Source,
    shutdown: impl FnOnce() -> std::io::Result<Requests>,
) -> Result<(), Error> {
    let config = &source.load()?;
    let interfaces = resolve(&config.interfaces, config.attach)?;
    let seed = random_seed();
    let size = TableSize::for_budget(online_cpus(), MAX_INTERFACES, config.table_memory_bytes)?;
    let mut kernel = Kernel::load(size, seed, config.decapsulate)?;
    let mut drain = Drain::new(&mut kernel, interfaces.len())?;
    let kernel_log = KernelLog::new(&mut kernel);
    let requests = shutdown().map_err(Error::thread)?;

    let own = OwnConnections::new(drain::own_connections(&mut kernel)?);
    let mut store = Store::open_watched(&config.store, Arc::new(own))?;
    let reloader = Reloader::new(source, config.clone(), store.address().port());
    drain.install_rules(reloader.rules())?;
    let hooks = Hooks::attach(kernel, &interfaces)?;
    announce(&interfaces, hooks.ingress(), size, &store);
    let pipeline = Pipeline::start(config, seed, &interfaces, &store)?;
    let mut agent = Agent {
        interfaces,
        ledger: pipeline.ledger.clone(),
        latency: pipeline.latency.clone(),
        kernel_log,
        reloader,
        intake: pipeline.cache.intake(),
    };

    notify(sd_notify::NotifyState::Ready);
    let metered = agent.meter(
        &mut drain,
        hooks.kernel(),
        &pipeline,
        &mut store,
        config.drain_interval,
        &requests,
    );
    notify(sd_notify::NotifyState::Stopping);
    tracing::info!(
        "stopping: detaching, then everything goes to the store; waiting for it up to {} s",
        config.stop_patience.as_secs()
    );
    pipeline.begin_stopping();
    let kernel = hooks.detach();
    // Two passes, one for each generation: nothing fills them any more.
    let drained = agent
        .pass(&mut drain, &kernel, &pipeline.cache)
        .and_then(|()| agent.pass(&mut drain, &kernel, &pipeline.cache));
    let ledger = agent.ledger.clone();
    drop(agent); // with its way into the cache, which ends when there is none
    let outcome = pipeline.finish();
    let stored = report(&ledger, outcome);
    let closed = store.close();
    metered.and(drained).and(stored).and(closed)
}

/// The stages after the drain, each with its threads.
struct Pipeline {
    cache: Cache,
    batcher: JoinHandle<()>,
    delivery: JoinHandle<Outcome>,
    stopping: watch::Sender<bool>,
    ledger: Ledger,
    latency: Latency,
}

impl Pipeline {
    fn start(
        config: &Config,
        seed: u64,
        interfaces: &[Interface],
        store: &Store,
    ) -> Result<Self, Error> {
        let (ledger, latency) = (Ledger::default(), Latency::default());
        let (record_sender, record_receiver) = bounded(RECORD_QUEUE);
        let (batch_sender, batch_receiver) = mpsc::channel(BATCH_QUEUE);
        let (stopping_sender, stopping) = watch::channel(false);
        let cache = CacheConfig {
            shards: config.shards,
            max_flows: config.max_flows,
            timeouts: config.timeouts,
            seed,
        };
        let cache = Cache::start(&cache, &record_sender, &latency).map_err(Error::thread)?;
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
            names: Names {
                exporter: config.exporter.clone(),
                interfaces: interfaces.iter().map(ToString::to_string).collect(),
            },
            ledger: ledger.clone(),
            latency: latency.clone(),
            wall_clock,
            patience: config.stop_patience,
        };
        let delivery = delivery.start(batch_receiver, stopping).map_err(Error::thread)?;
        Ok(Self { cache, batcher, delivery, stopping: stopping_sender, ledger, latency })
    }

    /// A stage that has ended before its time, which only a panic does.
    fn dead_stage(&self) -> Option<&'static str> {
        if !self.cache.is_alive() {
            Some("cache")
        } else if self.batcher.is_finished() {
            Some("batch")
        } else if self.delivery.is_finished() {
            Some("delivery")
        } else {
            None
        }
    }

    fn begin_stopping(&self) {
        // Without a receiver the delivery has ended already.
        let _ = self.stopping.send(true);
    }

    /// Ends stage after stage, so that each has given on what it held.
    fn finish(self) -> Outcome {
        let flows = self.cache.stop();
        tracing::debug!(?flows, "cache shards ended");
        join(self.batcher);
        join(self.delivery)
    }
}

/// What the drain thread works with.
struct Agent {
    interfaces: Vec<Interface>,
    ledger: Ledger,
    latency: Latency,
    kernel_log: KernelLog,
    reloader: Reloader,
    intake: Intake,
}

impl Agent {
    /// Drains at each interval until told to stop, or until it fails for good.
    fn meter(
        &mut self,
        drain: &mut Drain,
        kernel: &Kernel,
        pipeline: &Pipeline,
        store: &mut Store,
        interval: Duration,
        requests: &Requests,
    ) -> Result<(), Error> {
        let mut next = Instant::now() + interval;
        let mut failed = 0;
        loop {
            let wait = next.saturating_duration_since(Instant::now()).min(POLL);
            match requests.stop.recv_timeout(wait) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if requests.reload.try_recv().is_ok()
                && let Some(rules) = self.reloader.reload()
            {
                drain.set_rules(rules);
            }
            if let Some(stage) = pipeline.dead_stage() {
                return Err(Error::Stage { stage });
            }
            if Instant::now() < next && !nearly_full(drain.fill_level()) {
                continue;
            }
            next = Instant::now() + interval;
            keep_running(store);
            match self.pass(drain, kernel, &pipeline.cache) {
                Ok(()) => failed = 0,
                Err(error) if failed == FAILED_DRAINS => return Err(error),
                Err(error) => {
                    failed += 1;
                    tracing::warn!("{error}; trying again");
                }
            }
        }
    }

    /// One drain: deltas to the cache, counts to the ledger.
    fn pass(&mut self, drain: &mut Drain, kernel: &Kernel, cache: &Cache) -> Result<(), Error> {
        let started = Instant::now();
        let flipped = drain.flip(kernel, wall_clock)?;
        let interval = flipped.interval;
        let intake = &mut self.intake;
        let drained = drain.read(flipped, |hot, cold| intake.add(hot, cold, &interval));
        intake.flush(&interval);
        drain.close(&drained)?;
        self.latency.record(Stage::Drain, started.elapsed());
        cache.expire(drained.clock.now_ns(), drained.clock.drift_ns());
        for (number, balance) in drained.balances.iter().enumerate() {
            post(&self.ledger, number as u16, balance);
            self.warn_of_loss(number, balance);
        }
        if drained.evicted > 0 {
            tracing::debug!("{} flows left full sets of the flow tables", drained.evicted);
        }
        self.kernel_log.flush();
        Ok(())
    }

    fn warn_of_loss(&self, number: usize, balance: &Balance) {
        let interface = number.checked_sub(1).and_then(|position| self.interfaces.get(position));
        let name = interface.map_or_else(|| "an unknown interface".into(), ToString::to_string);
        for (reason, count) in Lost::ALL.iter().zip(&balance.lost) {
            if count.packets > 0 {
                let remedy = match reason {
                    Lost::RingFull => "raise table_memory_mib or lower drain_interval_ms",
                    Lost::NoRegion => "restart the agent: CPUs were added",
                    Lost::NoInterface | Lost::Crash => "please report it",
                };
                tracing::warn!(
                    "{name}: {} packets are not in any flow, reason {}; {remedy}",
                    count.packets,
                    reason.label()
                );
            }
        }
    }
}

/// True when the tables must not wait for the end of the interval: a flood could
/// fill what is left before the next look.
pub(crate) fn nearly_full(level: FillLevel) -> bool {
    level.flows > 0.25 || level.evicted > 0.1
}

/// Starts an embedded store that has died again. Its batches wait meanwhile, and
/// the kernel tables go on counting.
fn keep_running(store: &mut Store) {
    if let Err(error) = store.ensure_running() {
        tracing::warn!("the embedded store cannot be started again: {error}");
    }
}

/// Writes one interface's kernel balance into the ledger.
fn post(ledger: &Ledger, interface: u16, balance: &Balance) {
    ledger.add(interface, Entry::Seen, balance.seen);
    ledger.add(interface, Entry::Metered, balance.metered);
    // Overflow rows are drained, too: packets without addresses instead of none.
    let mut drained = balance.metered;
    drained.merge(balance.lost[Lost::RingFull as usize]);
    ledger.add(interface, Entry::Drained, drained);
    for (reason, count) in balance.not_metered.iter().enumerate() {
        ledger.add(interface, Entry::NotMetered(reason as u8), *count);
    }
    for (reason, count) in balance.lost.iter().enumerate() {
        ledger.add(interface, Entry::Lost(reason as u8), *count);
    }
    let fragments = Count { packets: balance.fragments_without_ports, octets: 0 };
    ledger.add(interface, Entry::FragmentWithoutPorts, fragments);
    let (packets, octets) = balance.unaccounted();
    if (packets, octets) != (0, 0) {
        tracing::error!(interface, packets, octets, "the ledger does not balance: this is a bug");
    }
}

/// Says how it ended; an error when records were left over.
fn report(ledger: &Ledger, outcome: Outcome) -> Result<(), Error> {
    let sum = |wanted: fn(&Entry) -> bool| -> u64 {
        let totals = ledger.totals();
        totals.iter().filter(|(entry, _)| wanted(entry)).map(|(_, count)| count.packets).sum()
    };
    let undelivered = sum(|entry| matches!(entry, Entry::LostRecord(_)));
    tracing::info!(
        seen = sum(|entry| *entry == Entry::Seen),
        metered = sum(|entry| *entry == Entry::Metered),
        not_metered = sum(|entry| matches!(entry, Entry::NotMetered(_))),
        lost = sum(|entry| matches!(entry, Entry::Lost(_))),
        unaccounted = ledger.unaccounted().0,
        acknowledged = sum(|entry| *entry == Entry::Acknowledged),
        undelivered,
        rows = outcome.rows,
        "stopped; packets since the start"
    );
    let (packets, octets) = ledger.in_flight();
    if (packets, octets) != (0, 0) {
        tracing::error!(packets, octets, "records are neither stored nor lost: this is a bug");
    }
    if undelivered > 0 {
        let source = outcome.undelivered.map(|(_, source)| source);
        return Err(Error::Undelivered { packets: undelivered, source });
    }
    Ok(())
}

fn announce(interfaces: &[Interface], ingress: &[IngressHook], size: TableSize, store: &Store) {
    for (interface, hook) in interfaces.iter().zip(ingress) {
        let egress = if interface.loopback { "" } else { " and TC egress" };
        tracing::info!("metering {interface} by {}{egress}", hook.label());
    }
    tracing::info!(
        "kernel tables: {} MiB, {} flows for each of {} CPUs; store: {}",
        size.bytes() >> 20,
        size.sets_per_region as usize * flow_common::table::WAYS,
        size.cpus,
        store.address()
    );
}

/// For hashes; senders must not be able to guess it.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // The standard library draws its keys from the system's random numbers.
    RandomState::new().hash_one(std::process::id())
}

fn join<T>(thread: JoinHandle<T>) -> T {
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
