//! Configuration: what was typed and what the file says become one checked value.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use crate::Exit;
use crate::analytics::AnalyticsConfig;
use crate::attach::{AttachError, AttachMode, InterfaceSpec, Selection};
use crate::batch::BatchLimits;
use crate::cache::Timeouts;
use crate::enrich::EnrichConfig;
use crate::filter::Rules;
use crate::host::check_name;
use crate::pressure::PressureLimits;
use crate::privileges::CapabilityChoice;
use crate::schema::Retention;
use crate::sink::{SinkError, StoreTarget};
use crate::spool::SpoolSettings;
use crate::state::StateConfig;

mod analytics;
mod batch;
mod cache;
mod delivery;
mod enrich;
mod memory;
mod retention;
mod rules;
mod sections;
mod settings;
mod source;
mod spool;
mod status;
#[cfg(test)]
mod tests;
mod values;

pub use cache::CacheChoice;
pub use delivery::{DeliveryConfig, DeliverySettings};
pub use enrich::EnrichSettings;
pub use settings::Settings;
pub use source::Source;
pub use spool::SpoolSection;
pub use status::{DEFAULT_STATUS, StatusListen};
pub use values::Said;

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message says what each field is")]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration {path} cannot be read: {source}")]
    Read { path: String, source: std::io::Error },
    /// The file is too large to be one.
    #[error("configuration {path} is larger than 1 MiB; give a TOML file")]
    TooLarge { path: String },
    /// The file is not TOML; the text names the line.
    #[error("configuration {path}{problem}")]
    Parse { path: String, problem: String },
    /// The file has a key that does not exist.
    #[error("{place} is no key; the keys are {known}")]
    UnknownKey { place: String, known: String },
    /// A value is of another type.
    #[error("{place} is {found}; it must be {needed}")]
    Type { place: String, found: &'static str, needed: &'static str },
    /// A value is not allowed.
    #[error("{place} is {value}; it must be {allowed}")]
    Value { place: String, value: String, allowed: String },
    /// A filter rule is wrong.
    #[error("{place}: {problem}")]
    Rule { place: String, problem: String },
    /// An interface cannot be understood.
    #[error("{place}: {source}")]
    Interface { place: String, source: AttachError },
    /// The store's address cannot be understood.
    #[error("{place}: {source}")]
    Store { place: String, source: SinkError },
}

impl ConfigError {
    /// The process exit code for these errors.
    pub const EXIT: Exit = Exit::Usage;
}

/// What `flow-agent run` does.
#[derive(Clone, Debug)]
pub struct Config {
    /// Interfaces to meter and to leave out, and how they are metered.
    pub selection: Selection,
    /// Where rows go.
    pub store: StoreTarget,
    /// How they get there.
    pub delivery: DeliveryConfig,
    /// This host's name in the rows.
    pub exporter: String,
    /// Time between two drains.
    pub drain_interval: Duration,
    /// Meter packets in tunnels as what the tunnels carry.
    pub decapsulate: bool,
    /// Memory for the kernel tables, in bytes; none for the default, which depends on the host.
    pub table_memory_bytes: Option<u64>,
    /// Where the tables are kept for the next agent, should this one be killed.
    pub pin_dir: Option<PathBuf>,
    /// Cache threads.
    pub shards: usize,
    /// What the cache may hold and how long, and what it counts.
    pub cache: CacheChoice,
    /// When batches are frozen.
    pub batch: BatchLimits,
    /// Where batches wait for the store.
    pub spool: SpoolSettings,
    /// How long a stopping agent waits for a store that is away.
    pub stop_patience: Duration,
    /// What is metered, but for the agent's own connections.
    pub rules: Rules,
    /// They are left out.
    pub exclude_own_traffic: bool,
    /// Which capabilities are kept.
    pub capabilities: CapabilityChoice,
    /// Where the status is served.
    pub status: StatusListen,
    /// When the cache is made smaller for lack of memory; none for never.
    pub memory: Option<PressureLimits>,
    /// How long rows are kept; none: as the tables have it.
    pub retention: Option<Retention>,
    /// What is said of devices, scanners and floods.
    pub analytics: AnalyticsConfig,
    /// What is looked up beside the packets; none: nothing.
    pub enrich: Option<EnrichConfig>,
    /// What is kept over restarts; none: nothing.
    pub state: Option<StateConfig>,
}

const DEFAULT_STORE: &str = "/var/lib/flow-agent/store";
const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/flow-agent";
const STOP_PATIENCE: Duration = Duration::from_secs(30);

impl Settings {
    /// Checks every value and fills in the defaults.
    ///
    /// # Errors
    /// The first value that is not allowed.
    pub fn check(mut self, host_name: &str, cpus: usize) -> Result<Config, ConfigError> {
        let defaults = Timeouts::default();
        let idle = number(self.idle_timeout_s, defaults.idle.as_secs(), 1, 86_400)?;
        let active = number(self.active_timeout_s, defaults.active.as_secs(), 1, 86_400)?;
        if idle > active {
            tracing::warn!(
                "the idle timeout ({idle} s) is longer than the active timeout ({active} s), \
                 which ends the records of long flows first"
            );
        }
        let drain_interval_ms = number(self.drain_interval_ms, 1000, 10, 60_000)?;
        let memory = self.table_memory_mib.map(|said| number(Some(said), 0, 1, 65_536));
        let memory = memory.transpose()?;
        let shards = number(self.shards, cpus.clamp(1, 64) as u64, 1, 1024)?;
        let ages = [idle, active].map(Duration::from_secs);
        let cache = self.cache.check(self.max_flows, ages, shards as usize)?;
        let batch = self.batch.check()?;
        Ok(Config {
            analytics: self.analytics.check(&cache.limits.timeouts, &batch)?,
            selection: Selection {
                include: interfaces(self.interfaces, str::parse)?,
                exclude: interfaces(self.exclude_interfaces, InterfaceSpec::exclusion)?,
                mode: self.attach.map_or(Ok(AttachMode::default()), attach_mode)?,
            },
            store: store(self.store)?,
            delivery: self.delivery.check()?,
            exporter: self.exporter.map_or(Ok(host_name.into()), exporter)?,
            drain_interval: Duration::from_millis(drain_interval_ms),
            decapsulate: self.decapsulate.is_some_and(|said| said.value),
            table_memory_bytes: memory.map(|mib| mib << 20),
            pin_dir: pin_dir(self.pin_dir)?,
            shards: shards as usize,
            cache,
            batch,
            spool: self.spool.check()?,
            stop_patience: STOP_PATIENCE,
            rules: rules::check(self.filter, self.sampling_mode, self.sampling_rate)?,
            exclude_own_traffic: self.exclude_own_traffic.is_none_or(|said| said.value),
            capabilities: self
                .capabilities
                .map_or(Ok(CapabilityChoice::default()), capabilities)?,
            status: StatusListen::check(self.status_listen)?,
            memory: memory::check(self.memory)?,
            retention: self.retention.check()?,
            enrich: self.enrich.check()?,
            state: self.enrich.check_state()?,
        })
    }
}

fn number(
    said: Option<Said<i64>>,
    default: u64,
    least: u64,
    most: u64,
) -> Result<u64, ConfigError> {
    let Some(Said { value, place }) = said else { return Ok(default) };
    let number = u64::try_from(value).ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| ConfigError::Value {
        place,
        value: value.to_string(),
        allowed: format!("{least} to {most}"),
    })
}

fn interfaces(
    said: Option<Said<Vec<String>>>,
    parse: fn(&str) -> Result<InterfaceSpec, AttachError>,
) -> Result<Vec<InterfaceSpec>, ConfigError> {
    let Some(Said { value, place }) = said else { return Ok(Vec::new()) };
    let specs: Result<_, _> = value.iter().map(|spec| parse(spec)).collect();
    specs.map_err(|source| ConfigError::Interface { place, source })
}

fn attach_mode(Said { value, place }: Said<String>) -> Result<AttachMode, ConfigError> {
    AttachMode::from_str(&value, false).map_err(|_| ConfigError::Value {
        place,
        value: format!("{value:?}"),
        allowed: "auto, xdp, xdp-generic or tc".into(),
    })
}

fn capabilities(Said { value, place }: Said<String>) -> Result<CapabilityChoice, ConfigError> {
    use CapabilityChoice::{Auto, Drop, Keep};
    [Auto, Drop, Keep].into_iter().find(|choice| choice.label() == value).ok_or_else(|| {
        let value = format!("{value:?}");
        ConfigError::Value { place, value, allowed: "\"auto\", \"drop\" or \"keep\"".into() }
    })
}

/// An empty text is none.
fn pin_dir(said: Option<Said<String>>) -> Result<Option<PathBuf>, ConfigError> {
    let Some(Said { value, place }) = said else { return Ok(Some(DEFAULT_PIN_DIR.into())) };
    if value.is_empty() {
        return Ok(None);
    }
    let path = PathBuf::from(&value);
    if path.is_absolute() {
        return Ok(Some(path));
    }
    let value = format!("{value:?}");
    Err(ConfigError::Value { place, value, allowed: "an absolute path, or empty for none".into() })
}

fn store(said: Option<Said<Vec<String>>>) -> Result<StoreTarget, ConfigError> {
    let Some(Said { value, place }) = said else {
        return Ok(StoreTarget::Embedded(DEFAULT_STORE.into()));
    };
    let target = StoreTarget::of_shards(&value);
    let target = target.map_err(|source| ConfigError::Store { place: place.clone(), source })?;
    if place.starts_with("--") && target.has_password() {
        tracing::warn!(
            "{place} has a password, which everybody on this host can see in the list of \
             processes; use password_file"
        );
    }
    Ok(target)
}

fn exporter(Said { value, place }: Said<String>) -> Result<String, ConfigError> {
    match check_name(&value) {
        Ok(()) => Ok(value),
        Err(allowed) => {
            let value = format!("{value:?}");
            Err(ConfigError::Value { place, value, allowed: allowed.into() })
        }
    }
}
