//! All detectors together, without threads or clocks.
//!
//! Enters: flow records with the names of their interfaces, the state of the networks, and the
//! time. Leaves: [`Output`], rows for the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::bounded::Size;
use super::changes::Changes;
use super::config::AnalyticsConfig;
use super::devices::{DeviceRow, Devices};
use super::episodes::Episodes;
use super::event::{Event, Kind};
use super::floods::Floods;
use super::interfaces::Interfaces;
use super::listeners::Listeners;
use super::network::{LinkState, Network};
use super::scans::Scans;
use super::state::{State, StateError};
use super::top::{Top, TopView};
use super::view::{EventView, Snapshot};
use crate::names::Names;
use crate::record::FlowRecord;

/// Devices that are shown.
const SHOWN_DEVICES: usize = 1_000;

/// What a detector may know.
pub struct Context<'a> {
    /// Unix ns.
    pub now_ns: u64,
    /// Limits.
    pub config: &'a AnalyticsConfig,
    /// What is local.
    pub network: &'a Network,
    /// Names of interfaces.
    pub interfaces: &'a Interfaces,
    /// True while what is new is not worth a word.
    pub learning: bool,
}

/// Rows for the store.
#[derive(Debug, Default, PartialEq)]
pub struct Output {
    /// Rows of `events`.
    pub events: Vec<Event>,
    /// Rows of `devices`.
    pub devices: Vec<DeviceRow>,
}

/// The detectors.
pub struct Engine {
    config: AnalyticsConfig,
    network: Network,
    interfaces: Interfaces,
    episodes: Episodes,
    devices: Devices,
    listeners: Listeners,
    scans: Scans,
    floods: Floods,
    changes: Changes,
    top: Top,
    /// Until then it only learns, Unix ns.
    learned_ns: u64,
    records: u64,
}

/// A detector needs what the others do not change.
macro_rules! context {
    ($engine:ident, $now:expr) => {
        Context {
            now_ns: $now,
            config: &$engine.config,
            network: &$engine.network,
            interfaces: &$engine.interfaces,
            learning: $now < $engine.learned_ns,
        }
    };
}

impl Engine {
    /// Nothing seen yet at `now_ns`.
    pub fn new(config: AnalyticsConfig, now_ns: u64) -> Self {
        Self {
            network: Network::new(config.local_networks.clone()),
            interfaces: Interfaces::new(),
            episodes: Episodes::new(config.cool_down, config.events_per_hour, now_ns),
            devices: Devices::new(now_ns),
            listeners: Listeners::new(),
            scans: Scans::new(),
            floods: Floods::new(),
            changes: Changes::new(),
            top: Top::new(now_ns),
            learned_ns: now_ns.saturating_add(config.learning.as_nanos() as u64),
            records: 0,
            config,
        }
    }

    /// Looks at records that were frozen at `now_ns`.
    pub fn observe(&mut self, records: &[FlowRecord], names: &Names, now_ns: u64) {
        self.interfaces.begin_batch(names);
        self.records += records.len() as u64;
        for record in records {
            let interface = self.interfaces.of(record.interface, names);
            let context = context!(self, now_ns);
            let (config, episodes) = (context.config, &mut self.episodes);
            if config.top {
                self.top.observe(record, interface);
            }
            if config.devices {
                self.devices.observe(record, interface, &context);
            }
            if config.listeners {
                self.listeners.observe(record, interface, &context, episodes);
            }
            let is_flood =
                config.syn_floods && self.floods.observe(record, interface, &context, episodes);
            if config.scans {
                self.scans.observe(record, interface, is_flood, &context, episodes);
            }
            if config.changes {
                self.changes.observe(record, interface, &context);
            }
        }
    }

    /// Takes the networks as they were at `taken_ns`.
    pub fn set_network(&mut self, links: &[LinkState], taken_ns: u64) {
        self.network.set(links, &mut self.interfaces);
        if self.config.devices {
            let context = context!(self, taken_ns);
            self.devices.neighbours(links, taken_ns, &context, &mut self.episodes);
        }
    }

    /// Lets time pass.
    pub fn tick(&mut self, now_ns: u64) {
        let context = context!(self, now_ns);
        if context.config.changes {
            self.changes.tick(&context, &mut self.episodes);
        }
        self.devices.tick(&context);
        self.listeners.tick(&context);
        self.scans.tick(&context);
        self.floods.tick(&context);
        self.top.tick(&context);
        self.episodes.tick(now_ns);
    }

    /// Says what has not been said: nothing comes after this.
    pub fn finish(&mut self, now_ns: u64) {
        let context = context!(self, now_ns);
        self.devices.finish(&context);
        self.episodes.finish(now_ns);
    }

    /// Rows since the last call.
    pub fn take(&mut self) -> Output {
        Output { events: self.episodes.take(), devices: self.devices.take() }
    }

    /// What there is to show. Devices are listed again only if asked for.
    pub fn snapshot(&self, now_ns: u64, devices: Option<&Arc<Vec<DeviceRow>>>) -> Snapshot {
        let context = context!(self, now_ns);
        let counts = Kind::ALL.map(|kind| (kind.label(), self.episodes.count(kind)));
        let top = if self.config.top {
            self.top.view(&self.interfaces, now_ns)
        } else {
            TopView::default()
        };
        Snapshot {
            ts_ns: now_ns,
            learning: context.learning,
            records: self.records,
            events: BTreeMap::from(counts),
            recent: self.episodes.recent().map(EventView::from).collect(),
            top,
            devices: devices
                .cloned()
                .unwrap_or_else(|| Arc::new(self.devices.view(SHOWN_DEVICES, &context))),
            sizes: self.sizes(),
        }
    }

    /// Devices in the inventory.
    pub fn device_count(&self) -> usize {
        self.devices.len()
    }

    /// How full every bounded structure is.
    pub fn sizes(&self) -> Vec<Size> {
        let interfaces = Size {
            name: "interface_names",
            entries: self.interfaces.len(),
            limit: Interfaces::LIMIT,
            forgotten: 0,
        };
        let mut sizes = vec![interfaces, self.episodes.size(), self.floods.size()];
        sizes.push(self.changes.size());
        sizes.extend(self.devices.sizes());
        sizes.extend(self.listeners.sizes());
        sizes.extend(self.scans.sizes());
        sizes.extend(self.top.sizes());
        sizes
    }

    /// What the next agent should know, as octets.
    pub fn save(&self, now_ns: u64) -> Vec<u8> {
        let name = |id| self.interfaces.name(id).to_string();
        let state = State {
            learning_left_ns: self.learned_ns.saturating_sub(now_ns),
            devices: self.devices.save(name),
            listeners: self.listeners.save(),
            series: self.changes.save(name),
            ..State::default()
        };
        state.encode()
    }

    /// Remembers what an earlier agent has saved; what was learned meanwhile stays.
    ///
    /// # Errors
    /// It is damaged or of another version; nothing is changed.
    pub fn load(&mut self, octets: &[u8], now_ns: u64) -> Result<(), StateError> {
        let state = State::decode(octets)?;
        let interfaces = &mut self.interfaces;
        let mut id = |name: &str| interfaces.id(&name.into());
        self.devices.load(state.devices, now_ns, &mut id);
        self.changes.load(state.series, &mut id);
        self.listeners.load(state.listeners);
        self.learned_ns = self.learned_ns.min(now_ns.saturating_add(state.learning_left_ns));
        Ok(())
    }
}
