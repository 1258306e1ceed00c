//! The live agent: every stage, from the hooks to the store, until it is told to stop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flow_common::hash::keys_from;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Error;
use crate::analytics::NeighbourWatch;
use crate::attach::{
    AttachError, Attacher, Handover, Hooks, Interface, Kernel, Missing, Numbers, PinFolder,
    Predecessor, STATISTICS_SYSCTL, Scan, TableSize, Watcher, has_tcx,
};
use crate::clock::wall_clock;
use crate::config::{Config, ConfigError, Loaded, Source};
use crate::drain::{self, Drain, Look, Partition};
use crate::enrich::Enrichment;
use crate::failpoint::failpoint;
use crate::filter::OwnConnections;
use crate::host::online_cpus;
use crate::logging;
use crate::names::{NameBook, Names};
use crate::privileges::{Privileges, System};
use crate::reload::{Reloader, Watch};
use crate::shutdown::Requests;
use crate::status::{Access, Bound, RulesBook, Vitals};
use crate::target::{Opening, Store};

mod books;
mod kept;
mod kernel_log;
mod legacy;
mod manager;
mod meter_loop;
mod notify;
mod observers;
mod pinned;
mod pipeline;
mod recovery;
mod warm;

pub(crate) use meter_loop::{LOOK, nearly_full};

use kernel_log::KernelLog;
use manager::Manager;
use meter_loop::MeterLoop;
use observers::Observed;
use pinned::{forget_estates, look_back, pin, unpin};
use pipeline::Pipeline;
use recovery::Recovery;
use warm::{save, save_last, warm_start};

/// How an agent begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Where nobody meters.
    Alone,
    /// Agents that run hand their hooks over, if there are any.
    TakeOver,
}

/// Meters until told to stop; then everything that was metered is in the store,
/// or the error says how much is not. `shutdown` is asked for once the programs
/// are loaded, which must not be interrupted, and before anything is attached.
///
/// # Errors
/// Something is missing at start (nothing is left attached), or the store did
/// not take everything at the end.
#[allow(clippy::too_many_lines, reason = "all stages, in the order of their start and their end")]
pub fn run(
    source: Source,
    start: Start,
    shutdown: impl FnOnce() -> std::io::Result<Requests> + Send,
) -> Result<(), Error> {
    let (watch, loaded) = begin(&source)?;
    let config = &loaded.config;
    // Dropped at last: then a successor opens what this agent had open.
    let _lock;
    let predecessors = match start {
        Start::TakeOver => Predecessor::all(config.pin_dir.as_deref())?,
        Start::Alone => Vec::new(),
    };
    // Of an agent that runs it may have the address.
    let early = predecessors.is_empty().then(|| open_status(config)).transpose()?;
    let privileges = privileges(config);
    let mut watcher = Watcher::new(config.selection.clone())?;
    let interfaces = first_look(&mut watcher)?;
    let names = NameBook::new(Names::new(&config.exporter, &[""; 0]));
    let mut enrichment =
        privileges.without(|| Enrichment::start(config.enrich.as_ref(), &names, wall_clock))?;
    let seed = random_seed();
    let (cpus, memory) = (online_cpus(), config.table_memory_bytes);
    let size = TableSize::of_host(cpus, interfaces.len(), config.decapsulate, memory)?;
    let mut kernel = load(config, size, seed)?;
    // From here on the agent cannot be ended without removing its pins, but by a kill.
    let requests = privileges.without(shutdown).map_err(Error::thread)?;
    let mut pins = pin(config, &kernel);
    let look = Look::new(&kernel)?;
    let mut drain = Drain::new(&mut kernel, 0)?;
    let kernel_log = KernelLog::new(&mut kernel);

    let own = OwnConnections::new(drain::own_connections(&mut kernel)?);
    let most = (size.interfaces - 1) as u16; // number 0 is for packets of unknown interfaces
    let mut hooks = Hooks::new(kernel, Numbers::new(most, cool_down(config), names.clone()));
    let relieved = !predecessors.is_empty();
    if relieved {
        // What is counted until the store is open meets all rules but that for the connections to it.
        drain.install_rules(config.rules.clone())?;
        pins.iter_mut().for_each(PinFolder::keep);
        Predecessor::relieve(predecessors, &mut hooks, interfaces.clone())?;
    }
    let status = early.map_or_else(|| open_status(config), Ok)?;
    // One that was relieved may have been killed before its end.
    let (folders, kept) = look_back(config, pins.as_ref());
    let store = privileges.without(|| open_store(config, own)?.kept_running())?;
    let reloader = privileges.without(|| reload(source, watch, &loaded, &store, &requests))?;
    if relieved {
        drain.set_rules(reloader.rules());
    } else {
        drain.install_rules(reloader.rules())?;
    }
    let rules = RulesBook::new(reloader.rules());
    let vitals = Arc::new(Vitals::new(wall_clock(), config.drain_interval));
    vitals.set_clock(drain.clock(wall_clock)?);
    let enricher = enrichment.enricher.take();
    let shards = Partition::even_parts(size, config.shards);
    let pipeline = privileges
        .without(|| Pipeline::start(config, shards, seed, &names, enricher, &store, kept))?;
    forget_estates(&folders)?;
    let keeper = privileges.without(|| warm_start(config, &pipeline, &enrichment))?;
    let mut intake = pipeline.cache.intake(drain.partition(shards));
    Recovery {
        interfaces: &interfaces,
        drain: &mut drain,
        intake: &mut intake,
        numbers: hooks.numbers(),
        ledger: &pipeline.ledger,
    }
    .run(folders);
    failpoint!("start::recovered");
    let neighbours = privileges.without(|| watch_neighbours(config, &pipeline))?;
    let mut meter = MeterLoop {
        names,
        neighbours,
        ledger: pipeline.ledger.clone(),
        latency: pipeline.latency.clone(),
        kernel_log,
        intake,
        drain,
        store,
        reloader,
        interval: config.drain_interval,
        next: Instant::now() + config.drain_interval,
        failed: 0,
        vitals: vitals.clone(),
        manager: Manager::new(sd_notify::watchdog_enabled()),
        rules: rules.clone(),
    };
    let observed = Observed {
        config,
        status,
        vitals: vitals.clone(),
        rules,
        metered: hooks.book(),
        programs: hooks.programs(),
        configuration: meter.reloader.book(),
        hash_keys: keys_from(seed),
        look,
        tables: size,
        enrich: enrichment.stats.clone(),
        privileges,
    };
    let observers = privileges.without(|| observed.start(&meter, &pipeline))?;
    let handover = Handover::new(pins.as_ref());
    let attacher = Attacher::start(hooks, interfaces, watcher, privileges, handover);
    let mut attacher = attacher.map_err(Error::thread)?;
    privileges.give_up(); // the thread that attaches has its own
    pins.iter_mut().for_each(PinFolder::keep);
    let metered = meter.live(&attacher, &pipeline, size, &requests);
    meter.stopping(config.delivery.stop_timeout);
    let detached = meter.detach(&mut attacher, &pipeline);
    pipeline.begin_stopping();
    // Two passes, one for each generation: nothing fills them any more.
    let drained = meter.pass(&pipeline.cache).and_then(|()| meter.pass(&pipeline.cache));
    if let Some(keeper) = &keeper {
        save(keeper); // while the cache still knows what is open
    }
    let MeterLoop { intake, ledger, store, .. } = meter;
    let status = observers.keep_status();
    drop(intake); // the cache ends when nothing can come in any more
    let outcome = pipeline.finish(|| save_last(keeper));
    let stored = books::report(&ledger, outcome);
    failpoint!("stop::stored");
    _lock = unpin(pins.filter(|_| drained.is_ok()));
    drop(status);
    let closed = store.close();
    metered.and(detached).and(drained).and(stored).and(closed)
}

/// Which capabilities are given up here.
fn privileges(config: &Config) -> Privileges {
    let system = System { root: rustix::process::geteuid().is_root(), tcx: has_tcx() };
    Privileges::new(config.capabilities, &config.selection, system)
}

/// Takes the address of the status, if one was asked for, and reads what it needs, before
/// anything is started.
fn open_status(config: &Config) -> Result<(Option<Bound>, Access), Error> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY");
    let access = Access::open(&config.status_access, folder.as_deref())?;
    Ok((Bound::asked(config.status)?, access))
}

/// Opens the store; `own` hears of the connections to it.
fn open_store(config: &Config, own: OwnConnections) -> Result<Store, Error> {
    let opening = Opening {
        access: config.delivery.access.clone(),
        exporter: &config.exporter,
        placement: config.delivery.placement,
        watch: Some(Arc::new(own)),
        retention: config.retention,
        patient: config.spool.dir.is_some(),
        cluster: None,
    };
    let store = Store::open(&config.store, &opening)?;
    // The kernel side knows the agent's own connections by one port.
    let (endpoints, first) = (store.endpoints(), store.address());
    let mut others = endpoints.all().filter(|it| it.client.address().port() != first.port());
    if let Some(other) = others.next().filter(|_| config.exclude_own_traffic) {
        tracing::warn!(
            "the agent's own connections to {} are metered, because it has another port than \
             {first}; give all servers of the store the same port",
            other.client.address(),
        );
    }
    Ok(store)
}

/// Shows the neighbour tables of the metered interfaces to the analytics, if they want them.
fn watch_neighbours(config: &Config, pipeline: &Pipeline) -> Result<Option<NeighbourWatch>, Error> {
    let Some(analytics) = pipeline.analytics() else { return Ok(None) };
    let (selection, interval) = (config.selection.clone(), config.analytics.neighbour_interval);
    NeighbourWatch::start(selection, interval, analytics.control(), wall_clock)
        .map(Some)
        .map_err(Error::thread)
}

/// Reads the configuration; from here on the log is as it is asked for.
fn begin(source: &Source) -> Result<(Watch, Loaded), ConfigError> {
    raise_descriptor_limit();
    let watch = Watch::new(source.file.as_deref());
    let loaded = source.load()?;
    logging::apply(&loaded.config.log).map_err(|error| ConfigError::no_journal(&error))?;
    for warning in &loaded.config.warnings {
        tracing::warn!("{warning}");
    }
    Ok((watch, loaded))
}

/// Follows the configuration.
fn reload(
    source: Source,
    watch: Watch,
    loaded: &Loaded,
    store: &Store,
    requests: &Requests,
) -> Result<Reloader, Error> {
    let (port, hangups) = (store.address().port(), requests.reload.clone());
    Reloader::start(source, watch, loaded, port, hangups).map_err(Error::thread)
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
    let timeouts = config.cache.limits.timeouts;
    let open = timeouts.longest() + timeouts.linger;
    open + 2 * config.drain_interval + config.batch.age + SLACK
}

/// Loads the kernel side, and has the kernel count what it costs if that is asked for.
fn load(config: &Config, size: TableSize, seed: u64) -> Result<Kernel, AttachError> {
    let kernel = Kernel::load(size, seed)?;
    if config.kernel_statistics
        && let Err(error) = kernel.programs().switch_on()
    {
        tracing::warn!(
            "kernel_statistics of [run]: the kernel does not count what programs cost: {error}; it \
             takes CAP_SYS_ADMIN: run `sysctl {STATISTICS_SYSCTL}=1` instead, and write it to \
             /etc/sysctl.d for the next boot"
        );
    }
    Ok(kernel)
}

/// Each hook takes a descriptor: hundreds of interfaces need more than the usual 1024.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!("the limit of open files stays at {:?}: {error}", limit.current);
    }
}

fn announce(interfaces: usize, size: TableSize, store: &Store) {
    tracing::info!(
        "metering {interfaces} interfaces; kernel tables: {} MiB, {} flows for each of {} CPUs; store: {}",
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
