//! The enrichment of a live agent, from its configuration.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, bounded};

use super::enricher::Enricher;
use super::geoip::{GeoFiles, GeoIp};
use super::hosts::{HostConfig, HostNames};
use super::learner::{Learner, LearnerConfig};
use super::listeners::Listeners;
use super::local::Local;
use super::memo::Lifetime;
use super::service_names::{OwnServices, ServiceNames};
use super::stats::EnrichStats;
use super::units::Units;
use crate::Error;
use crate::names::NameBook;
use crate::services::KnownPorts;

/// How often the GeoIP files are looked at.
const GEOIP_LOOK: Duration = Duration::from_secs(10);
/// News that may wait for the next batch.
const NEWS: usize = 4;

/// What is looked up, and how much of it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrichConfig {
    /// The configuration's own services.
    pub services: OwnServices,
    /// How long a listening port is remembered; none: ports are not learned.
    pub listeners_ttl: Option<Duration>,
    /// Units of sockets; none: they are not learned.
    pub units: Option<Lifetime>,
    /// Time between two looks at the sockets.
    pub sockets_interval: Duration,
    /// The files of addresses.
    pub geoip: GeoFiles,
    /// What is kept of them.
    pub geoip_lifetime: Lifetime,
    /// Host names; none: nobody is asked.
    pub hosts: Option<HostConfig>,
}

/// The running enrichment. Its threads end when it is dropped.
pub struct Enrichment {
    /// For the thread that freezes batches; none once it was taken.
    pub enricher: Option<Enricher>,
    /// What the caches have done.
    pub stats: EnrichStats,
    /// The listening ports, to be kept over restarts.
    pub listeners: Listeners,
    /// Ports that help to find who began a flow.
    pub known_ports: KnownPorts,
    learner: Option<JoinHandle<()>>,
    stop: Option<Sender<()>>,
}

impl Enrichment {
    /// One that knows nothing but the well-known ports.
    pub fn off() -> Self {
        Self {
            enricher: None,
            stats: EnrichStats::default(),
            listeners: Listeners::default(),
            known_ports: KnownPorts::default(),
            learner: None,
            stop: None,
        }
    }

    /// Opens the files and starts the threads; none: everything is switched off.
    ///
    /// # Errors
    /// A file cannot be used, or the system refuses a thread.
    pub fn start(
        config: Option<&EnrichConfig>,
        names: &NameBook,
        wall_clock: fn() -> u64,
    ) -> Result<Self, Error> {
        let Some(config) = config else { return Ok(Self::off()) };
        let (stop_sender, stop) = bounded(0);
        let geoip = match &config.geoip {
            files if files.is_empty() => None,
            files => {
                let mut geoip = GeoIp::open(files, config.geoip_lifetime)?;
                geoip.watch(files, GEOIP_LOOK, stop.clone()).map_err(Error::thread)?;
                Some(geoip)
            }
        };
        let hosts = config.hosts.map(HostNames::start).transpose().map_err(Error::thread)?;
        let (service_news, services) = bounded(NEWS);
        let (unit_news, units) = bounded(NEWS);
        let local = Local {
            services: Some(ServiceNames::new(&config.services, Some(services))),
            units: config.units.map(|lifetime| Units::new(lifetime, units)),
            hosts,
        };
        let enricher = Enricher::live(geoip, local, Instant::now());
        let own_ports: Vec<_> =
            config.services.iter().map(|(protocol, port, _)| (protocol, port)).collect();
        let known_ports = KnownPorts::default();
        let listeners = Listeners::new(known_ports.clone(), own_ports);
        let learner = Learner {
            config: LearnerConfig {
                interval: config.sockets_interval,
                listeners_ttl: config.listeners_ttl,
                units: config.units.map(|lifetime| (lifetime.entries, lifetime.ttl)),
            },
            names: names.clone(),
            listeners: listeners.clone(),
            service_news,
            unit_news,
            wall_clock,
        };
        let learns = config.listeners_ttl.is_some() || config.units.is_some();
        let learner = learns.then(|| learner.start(stop)).transpose().map_err(Error::thread)?;
        Ok(Self {
            stats: enricher.stats(),
            enricher: Some(enricher),
            listeners,
            known_ports,
            learner,
            stop: Some(stop_sender),
        })
    }
}

/// The looks end; that of the sockets is waited for, because it writes what is kept.
impl Drop for Enrichment {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(learner) = self.learner.take() {
            let _: Result<(), _> = learner.join();
        }
    }
}
