//! Where the status comes from: handles on every stage, none of which makes a stage wait.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use flow_common::hash::HashKeys;

use super::{History, Vitals};
use crate::analytics::View;
use crate::attach::{MeteredBook, ProgramBook, TableSize};
use crate::cache::CacheControl;
use crate::config::ConfigBook;
use crate::drain::Look;
use crate::enrich::EnrichStats;
use crate::filter::Rules;
use crate::latency::Latency;
use crate::ledger::Ledger;
use crate::names::NameBook;
use crate::pressure::PressureBook;
use crate::privileges::Privileges;
use crate::sink::{DeliveryBook, Endpoints};
use crate::spool::SpoolStatus;
use crate::store::StoreRuns;
use crate::waiting::Waiting;

/// The rules that the configuration asks for; clones share them.
#[derive(Clone, Debug, Default)]
pub struct RulesBook(Arc<RwLock<Rules>>);

impl RulesBook {
    /// A book that begins with these.
    pub fn new(rules: Rules) -> Self {
        Self(Arc::new(RwLock::new(rules)))
    }

    /// The rules now.
    pub fn current(&self) -> Rules {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on these.
    pub fn set(&self, rules: Rules) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }
}

/// Everything that is shown; cheap to clone.
#[derive(Clone)]
pub struct Sources {
    /// The thread that drains.
    pub vitals: Arc<Vitals>,
    /// What became of every packet.
    pub ledger: Ledger,
    /// How long each stage took.
    pub latency: Latency,
    /// What waits for the store.
    pub waiting: Waiting,
    /// The spool; the default says nothing.
    pub spool: SpoolStatus,
    /// What takes batches from there to the store.
    pub deliveries: DeliveryBook,
    /// The flow cache.
    pub cache: CacheControl,
    /// What interfaces are called.
    pub names: NameBook,
    /// Which interfaces are metered.
    pub metered: MeteredBook,
    /// What the programs cost in the kernel.
    pub programs: ProgramBook,
    /// The configuration in force.
    pub configuration: ConfigBook,
    /// What is metered of their packets.
    pub rules: RulesBook,
    /// Of the kernel's hashes: they decide which flows are in a sample. Never shown.
    pub hash_keys: HashKeys,
    /// The kernel tables.
    pub look: Arc<Mutex<Look>>,
    /// The size of the kernel tables.
    pub tables: TableSize,
    /// The store, with connections of its own; none that come from elsewhere.
    pub store: Endpoints,
    /// What became of the process of an embedded store.
    pub store_runs: Option<Arc<StoreRuns>>,
    /// Memory pressure.
    pub pressure: PressureBook,
    /// What the analytics have found; none if they are switched off.
    pub analytics: Option<View>,
    /// What the caches of the enrichment have done.
    pub enrich: EnrichStats,
    /// Which capabilities are kept.
    pub privileges: Privileges,
    /// The last answers of the store about the past.
    pub history: Arc<History>,
    /// This host's name in the rows.
    pub exporter: String,
    /// How long the cache may take to answer.
    pub patience: Duration,
}
