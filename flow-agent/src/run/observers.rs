//! What looks at the agent while it runs: the status and the watch on memory.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use flow_common::hash::HashKeys;

use super::meter_loop::MeterLoop;
use super::pipeline::Pipeline;
use crate::Error;
use crate::analytics::Analytics;
use crate::attach::{MeteredBook, ProgramBook, TableSize};
use crate::cache::{CacheControl, Invalidated, Mode, Selection};
use crate::config::{Config, ConfigBook};
use crate::drain::Look;
use crate::enrich::EnrichStats;
use crate::pressure::{Pressure, PressureBook, Reader, Resizable};
use crate::privileges::Privileges;
use crate::status::{Access, Bound, History, RulesBook, Server, Sources, Vitals};

/// How long the cache may take to answer a question of the status.
const ANSWER: Duration = Duration::from_secs(5);

/// What the observers need besides the stages.
pub struct Observed<'a> {
    pub config: &'a Config,
    /// Where the status is served, if that was asked for, and who may ask for it.
    pub status: (Option<Bound>, Access),
    pub vitals: Arc<Vitals>,
    pub rules: RulesBook,
    pub metered: MeteredBook,
    pub programs: ProgramBook,
    pub configuration: ConfigBook,
    pub hash_keys: HashKeys,
    pub look: Look,
    pub tables: TableSize,
    pub enrich: EnrichStats,
    pub privileges: Privileges,
}

/// The running observers; they end when they are dropped.
pub struct Observers {
    pressure: Option<Pressure>,
    status: Option<Server>,
}

impl Observed<'_> {
    /// Starts them.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(self, meter: &MeterLoop, pipeline: &Pipeline) -> Result<Observers, Error> {
        let (config, cache) = (self.config, pipeline.cache.control());
        // Where the limit of memory is the lower one, pressure starts from that.
        let most = config.cache.limits.flows_of(pipeline.cache.shards());
        cache.on_invalidation(Box::new(log_invalidation));
        let watched = cache.clone();
        let pressure =
            config.memory.map(|limits| Pressure::start(limits, most, Reader::new(), watched));
        let pressure = pressure.transpose().map_err(Error::thread)?;
        let sources = Sources {
            vitals: self.vitals,
            ledger: pipeline.ledger.clone(),
            latency: pipeline.latency.clone(),
            waiting: pipeline.waiting.clone(),
            spool: pipeline.spool.clone(),
            deliveries: pipeline.deliveries.clone(),
            cache,
            names: meter.names.clone(),
            metered: self.metered,
            programs: self.programs,
            configuration: self.configuration,
            rules: self.rules,
            hash_keys: self.hash_keys,
            look: Arc::new(Mutex::new(self.look)),
            tables: self.tables,
            store: meter.store.endpoints(),
            store_runs: meter.store.runs(),
            pressure: pressure.as_ref().map_or_else(PressureBook::default, Pressure::book),
            analytics: pipeline.analytics().map(Analytics::view),
            enrich: self.enrich,
            privileges: self.privileges,
            history: Arc::new(History::default()),
            exporter: config.exporter.clone(),
            patience: ANSWER,
        };
        let (bound, access) = self.status;
        let bound = bound.or_else(|| Bound::default(config.status));
        let status = bound.map(|bound| {
            let scheme = if access.tls.is_some() { "https" } else { "http" };
            tracing::info!("the status is at {scheme}://{}", bound.address());
            bound.serve(sources, access, &config.status_access)
        });
        Ok(Observers { pressure, status: status.transpose().map_err(Error::thread)? })
    }
}

/// Only the status asks for invalidations.
fn log_invalidation(selection: &Selection, mode: Mode, done: &Invalidated) {
    let mode = if mode == Mode::Hard { "hard" } else { "soft" };
    tracing::info!(
        "{mode} invalidation of {selection:?}, asked for at the status address: {} flows, {} packets",
        done.flows,
        done.packets
    );
}

impl Observers {
    /// Ends all but the status.
    pub fn keep_status(self) -> Option<Server> {
        drop(self.pressure);
        self.status
    }
}

impl Resizable for CacheControl {
    fn open_flows(&self) -> usize {
        self.stats().sum.flows as usize
    }

    fn resize(&self, max_flows: usize) {
        Self::resize(self, max_flows);
    }
}
