//! The live agent: every stage, from the hooks to the store, until it is told to stop.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use flow_common::{Count, Lost};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{mpsc, watch};

use crate::Error;
use crate::attach::{
    AttachError, Hooks, Interface, Kernel, Missing, Numbers, Scan, TableSize, Watcher,
};
use crate::batch;
use crate::cache::{Cache, CacheConfig};
use crate::clock::wall_clock;
use crate::config::Config;
use crate::delta::Delta;
use crate::drain::{Balance, Drain};
use crate::host::online_cpus;
use crate::latency::{Latency, Stage};
use crate::ledger::{Entry, Ledger};
use crate::names::{NameBook, Names};
use crate::sink::{Delivery, Outcome};
use crate::target::Store;

mod kernel_log;
mod report;

use kernel_log::KernelLog;
use report::report;

/// Batches that may wait for the store; the rows in them are bounded by `batch`.
const BATCH_QUEUE: usize = 1 << 16;
/// Messages of records that may wait for the batcher.
const RECORD_QUEUE: usize = 256;
/// How often the ring of evicted flows is emptied between two drains.
const POLL: Duration = Duration::from_millis(50);
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
    config: &Config,
    shutdown: impl FnOnce() -> std::io::Result<Receiver<()>>,
) -> Result<(), Error> {
    raise_descriptor_limit();
    let mut watcher = Watcher::new(config.selection.clone())?;
    let interfaces = first_look(&mut watcher)?;
    let seed = random_seed();
    let numbers = TableSize::interfaces_for(interfaces.len());
    let size = TableSize::for_budget(online_cpus(), numbers, config.table_memory_bytes)?;
    let mut kernel = Kernel::load(size, seed)?;
    let drain = Drain::new(&mut kernel, 0)?;
    let kernel_log = KernelLog::new(&mut kernel);
    let shutdown = shutdown().map_err(Error::thread)?;

    let store = Store::open(&config.store)?;
    let names = NameBook::new(Names::new(&config.exporter, &[""; 0]));
    let pipeline = Pipeline::start(config, seed, &names, &store)?;
    let most = (numbers - 1) as u16; // number 0 is for packets of unknown interfaces
    let numbers = Numbers::new(most, cool_down(config), names.clone());
    let mut agent = Agent {
        names,
        ledger: pipeline.ledger.clone(),
        latency: pipeline.latency.clone(),
        kernel_log,
        deltas: Vec::new(),
        drain,
        store,
        interval: config.drain_interval,
        next: Instant::now() + config.drain_interval,
        polled: Instant::now(),
        failed: 0,
    };
    let mut hooks = Hooks::new(kernel, numbers);
    hooks.want(interfaces, Instant::now());
    let metered = agent.live(&mut hooks, watcher, &pipeline, size, &shutdown);
    notify(sd_notify::NotifyState::Stopping);
    tracing::info!(
        "stopping: detaching, then everything goes to the store; waiting for it up to {} s",
        config.stop_patience.as_secs()
    );
    let detached = agent.detach(&mut hooks, &pipeline);
    pipeline.begin_stopping();
    // Two passes, one for each generation: nothing fills them any more.
    let drained = agent
        .pass(hooks.kernel(), &pipeline.cache)
        .and_then(|()| agent.pass(hooks.kernel(), &pipeline.cache));
    let outcome = pipeline.finish();
    let stored = report(&agent.ledger, outcome);
    let closed = agent.store.close();
    metered.and(detached).and(drained).and(stored).and(closed)
}

/// The interfaces there are at start. What was asked for by name must be there; what a
/// glob matches may come later.
fn first_look(watcher: &mut Watcher) -> Result<Vec<Interface>, AttachError> {
    let Scan { found, missing } = watcher.scan()?;
    let (exact, globs): (Vec<_>, Vec<_>) = missing.into_iter().partition(|miss| miss.exact);
    for Missing { error, .. } in globs {
        tracing::warn!("{error}; what comes later is metered");
    }
    AttachError::all(exact.into_iter().map(|miss| miss.error).collect())?;
    if found.is_empty() {
        tracing::warn!("no interface is metered until one comes that was asked for");
    }
    Ok(found)
}

/// How long the last records of an interface may be on their way to a batch: until then
/// its number is not given to another one.
fn cool_down(config: &Config) -> Duration {
    /// For drains and batches that wait for each other.
    const SLACK: Duration = Duration::from_secs(10);
    let timeouts = config.timeouts;
    let open = timeouts.idle.max(timeouts.active) + timeouts.linger;
    open + 2 * config.drain_interval + config.batch.age + SLACK
}

/// Each hook takes a descriptor: hundreds of interfaces need more than the usual 1024.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!("the limit of open files stays at {:?}: {error}", limit.current);
    }
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
    fn start(config: &Config, seed: u64, names: &NameBook, store: &Store) -> Result<Self, Error> {
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
            names.clone(),
            ledger.clone(),
            latency.clone(),
            wall_clock,
        )
        .map_err(Error::thread)?;
        let delivery = Delivery {
            store: store.new_client(),
            exporter: config.exporter.clone(),
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
    names: NameBook,
    ledger: Ledger,
    latency: Latency,
    kernel_log: KernelLog,
    deltas: Vec<Delta>,
    drain: Drain,
    store: Store,
    interval: Duration,
    /// When the tables are drained next.
    next: Instant,
    /// When the ring was last emptied.
    polled: Instant,
    /// Drains that failed one after the other.
    failed: u32,
}

impl Agent {
    /// Attaches, and meters until told to stop or until it fails for good.
    fn live(
        &mut self,
        hooks: &mut Hooks,
        watcher: Watcher,
        pipeline: &Pipeline,
        size: TableSize,
        shutdown: &Receiver<()>,
    ) -> Result<(), Error> {
        while hooks.is_busy() {
            if shutdown.try_recv().is_ok() {
                return Ok(());
            }
            self.step(hooks, pipeline)?;
        }
        hooks.started()?;
        announce(hooks, size, &self.store);
        let watch = watcher.watch().map_err(Error::thread)?;
        notify(sd_notify::NotifyState::Ready);
        loop {
            let wait = if hooks.is_busy() { Duration::ZERO } else { self.until_due() };
            match shutdown.recv_timeout(wait) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Some(stage) = pipeline.dead_stage() {
                return Err(Error::Stage { stage });
            }
            if let Some(scan) = watch.latest() {
                hooks.want(scan.found, Instant::now());
            }
            self.step(hooks, pipeline)?;
        }
    }

    /// Detaches everything, and drains meanwhile.
    fn detach(&mut self, hooks: &mut Hooks, pipeline: &Pipeline) -> Result<(), Error> {
        hooks.want_none();
        let mut result = Ok(());
        while hooks.is_busy() {
            result = result.and(self.step(hooks, pipeline));
        }
        result
    }

    /// Attaches or detaches one interface, if there is one to, and drains when it is time.
    fn step(&mut self, hooks: &mut Hooks, pipeline: &Pipeline) -> Result<(), Error> {
        hooks.step(Instant::now());
        self.drain.cover(hooks.highest());
        let now = Instant::now();
        let result = if now >= self.next {
            self.next = now + self.interval;
            keep_running(&mut self.store);
            self.pass(hooks.kernel(), &pipeline.cache)
        } else if now >= self.polled + POLL {
            self.poll(hooks.kernel(), &pipeline.cache)
        } else {
            return Ok(());
        };
        self.polled = now;
        match result {
            Ok(()) => self.failed = 0,
            Err(error) if self.failed == FAILED_DRAINS => return Err(error),
            Err(error) => {
                self.failed += 1;
                tracing::warn!("{error}; trying again");
            }
        }
        Ok(())
    }

    /// Time until the ring is emptied or the tables are drained.
    fn until_due(&self) -> Duration {
        self.next.min(self.polled + POLL).saturating_duration_since(Instant::now())
    }

    /// One drain: deltas to the cache, counts to the ledger.
    fn pass(&mut self, kernel: &Kernel, cache: &Cache) -> Result<(), Error> {
        let started = Instant::now();
        self.deltas.clear();
        let drained = self.drain.drain(kernel, wall_clock, &mut self.deltas)?;
        self.latency.record(Stage::Drain, started.elapsed());
        cache.update(&self.deltas);
        cache.expire(drained.clock.now_ns(), drained.clock.drift_ns());
        let names = self.names.current();
        for (number, balance) in drained.balances.iter().enumerate() {
            let name = names.interface(number as u16);
            post(&self.ledger, name, balance);
            warn_of_loss(name, balance);
        }
        if drained.evicted > 0 {
            tracing::debug!("{} flows left full sets of the flow tables", drained.evicted);
        }
        self.kernel_log.flush();
        Ok(())
    }

    /// Empties the ring of evicted flows.
    fn poll(&mut self, kernel: &Kernel, cache: &Cache) -> Result<(), Error> {
        self.deltas.clear();
        self.drain.poll(kernel, wall_clock, &mut self.deltas)?;
        cache.update(&self.deltas);
        Ok(())
    }
}

fn warn_of_loss(name: &str, balance: &Balance) {
    for (reason, count) in Lost::ALL.iter().zip(&balance.lost) {
        if count.packets > 0 {
            let remedy = match reason {
                Lost::RingFull => "raise table_memory_mib or lower drain_interval_ms",
                Lost::NoRegion => "restart the agent: CPUs were added",
                Lost::NoInterface => "please report it",
            };
            tracing::warn!(
                "{name}: {} packets are not in any flow, reason {}; {remedy}",
                count.packets,
                reason.label()
            );
        }
    }
}

/// Starts an embedded store that has died again. Its batches wait meanwhile, and
/// the kernel tables go on counting.
fn keep_running(store: &mut Store) {
    if let Err(error) = store.ensure_running() {
        tracing::warn!("the embedded store cannot be started again: {error}");
    }
}

/// Writes one interface's kernel balance into the ledger.
fn post(ledger: &Ledger, interface: &Arc<str>, balance: &Balance) {
    ledger.add(interface, Entry::Seen, balance.seen);
    ledger.add(interface, Entry::Metered, balance.metered);
    ledger.add(interface, Entry::Drained, balance.metered);
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
        tracing::error!(%interface, packets, octets, "the ledger does not balance: this is a bug");
    }
}

fn announce(hooks: &Hooks, size: TableSize, store: &Store) {
    tracing::info!(
        "metering {} interfaces; kernel tables: {} MiB, {} flows for each of {} CPUs; store: {}",
        hooks.metered(),
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
