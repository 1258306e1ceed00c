//! Configuration: what a profile, the file, the environment and the command line say becomes one
//! checked value.
//!
//! Enters: texts. Leaves: [`Config`] for the agent, [`Effective`] for people. It holds that
//! everything that is wrong is told at once, with file, line and key, and that [`keys`] is the
//! only list of keys.

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
use crate::logging::LogConfig;
use crate::pressure::PressureLimits;
use crate::privileges::CapabilityChoice;
use crate::schema::Retention;
use crate::sink::{SinkError, StoreTarget};
use crate::spool::SpoolSettings;
use crate::state::StateConfig;

#[cfg(test)]
mod agreement;
mod analytics;
mod batch;
mod book;
mod cache;
mod delivery;
mod document;
mod effective;
mod enrich;
mod environment;
mod files;
mod json_schema;
pub mod keys;
mod layers;
mod log;
mod memory;
mod print;
mod profile;
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

pub use book::ConfigBook;
pub use cache::CacheChoice;
pub use delivery::DeliveryConfig;
pub use document::markdown;
pub use effective::{Effective, Entry};
pub use json_schema::json_schema;
pub use layers::Given;
pub use print::commented;
pub use settings::Settings;
pub use source::{Loaded, Source};
pub use status::{DEFAULT_STATUS, StatusAccess, StatusListen, StatusSettings};
use values::Said;

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
    /// The same, and it is like one that does.
    #[error("{place} is no key; did you mean {hint}? `flow-agent config print` shows all keys")]
    MistypedKey { place: String, hint: String },
    /// The journal is asked for and is not there.
    #[error(
        "log.format is journald, but the journal cannot be reached: {problem}; choose auto, text or json"
    )]
    NoJournal { problem: String },
    /// Several things are wrong.
    #[error("{} problems:{}", problems.len(), lines(problems))]
    Several { problems: Vec<ConfigError> },
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

    /// All of these; there is one at least. Those of a file are in the order of its lines.
    pub fn all(mut problems: Vec<Self>) -> Self {
        problems.sort_by_key(|problem| problem.place().map_or(0, files::line_of));
        if problems.len() == 1
            && let Some(problem) = problems.pop()
        {
            return problem;
        }
        Self::Several { problems }
    }

    /// The journal is asked for and is not there.
    pub fn no_journal(error: &std::io::Error) -> Self {
        Self::NoJournal { problem: error.to_string() }
    }

    /// Each by itself.
    pub fn each(&self) -> &[Self] {
        match self {
            Self::Several { problems } => problems,
            one => std::slice::from_ref(one),
        }
    }

    /// Where it is.
    fn place(&self) -> Option<&str> {
        match self {
            Self::UnknownKey { place, .. }
            | Self::MistypedKey { place, .. }
            | Self::Type { place, .. }
            | Self::Value { place, .. }
            | Self::Rule { place, .. }
            | Self::Interface { place, .. }
            | Self::Store { place, .. } => Some(place),
            Self::Parse { problem, .. } => Some(problem),
            Self::Read { .. }
            | Self::TooLarge { .. }
            | Self::NoJournal { .. }
            | Self::Several { .. } => None,
        }
    }
}

/// A line each.
fn lines(problems: &[ConfigError]) -> String {
    /// Beyond this nobody reads.
    const MOST: usize = 50;
    let each = problems.iter().take(MOST).map(|problem| format!("\n  {problem}"));
    let mut lines: Vec<_> = each.collect();
    if let Some(more) = problems.len().checked_sub(MOST).filter(|more| *more > 0) {
        lines.push(format!("\n  and {more} more"));
    }
    lines.concat()
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
    /// What is metered, but for the agent's own connections.
    pub rules: Rules,
    /// They are left out.
    pub exclude_own_traffic: bool,
    /// Which capabilities are kept.
    pub capabilities: CapabilityChoice,
    /// The kernel is to count what programs cost.
    pub kernel_statistics: bool,
    /// Where the status is served.
    pub status: StatusListen,
    /// Who may ask for it, over what, and how much.
    pub status_access: StatusAccess,
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
    /// What is logged, and how.
    pub log: LogConfig,
    /// What is allowed and may not be meant; told once the log is as it is to be.
    pub warnings: Vec<String>,
    /// The file is read again when it has changed.
    pub reload_on_change: bool,
}

const DEFAULT_STORE: &str = "/var/lib/flow-agent/store";
const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/flow-agent";

impl Settings {
    /// Checks every value and fills in the defaults.
    ///
    /// # Errors
    /// The first value that is not allowed.
    pub fn check(mut self, host_name: &str, cpus: usize) -> Result<Config, ConfigError> {
        let mut warnings = Vec::new();
        let defaults = Timeouts::default();
        let idle = number(self.idle_timeout_s, defaults.idle.as_secs(), 1, 86_400)?;
        let active = number(self.active_timeout_s, defaults.active.as_secs(), 1, 86_400)?;
        if idle > active {
            warnings.push(format!(
                "the idle timeout ({idle} s) is longer than the active timeout ({active} s), \
                 which ends the records of long flows first"
            ));
        }
        let drain_interval_ms = number(self.drain_interval_ms, 1000, 10, 60_000)?;
        let memory = self.table_memory_mib.map(|said| number(Some(said), 0, 1, 65_536));
        let memory = memory.transpose()?;
        let shards = number(self.shards, cpus.clamp(1, 64) as u64, 1, 1024)?;
        let ages = [idle, active].map(Duration::from_secs);
        let cache = self.cache.check(self.max_flows, ages, shards as usize)?;
        let batch = self.batch.check()?;
        let listen = StatusListen::check(self.status_listen.clone())?;
        Ok(Config {
            analytics: self.analytics.check(&cache.limits.timeouts, &batch)?,
            selection: Selection {
                include: interfaces(self.interfaces, str::parse)?,
                exclude: interfaces(self.exclude_interfaces, InterfaceSpec::exclusion)?,
                mode: self.attach.map_or(Ok(AttachMode::default()), attach_mode)?,
            },
            store: store(self.store, &mut warnings)?,
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
            rules: rules::check(self.filter, self.sampling_mode, self.sampling_rate)?,
            exclude_own_traffic: self.exclude_own_traffic.is_none_or(|said| said.value),
            status: listen,
            status_access: self.status.check((self.status_listen, listen))?,
            capabilities: self
                .capabilities
                .map_or(Ok(CapabilityChoice::default()), capabilities)?,
            kernel_statistics: self.kernel_statistics.is_some_and(|said| said.value),
            memory: memory::check(self.memory)?,
            retention: self.retention.check()?,
            enrich: self.enrich.check()?,
            state: self.enrich.check_state()?,
            log: self.log.check()?,
            warnings,
            reload_on_change: self.reload_on_change.is_none_or(|said| said.value),
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

fn store(
    said: Option<Said<Vec<String>>>,
    warnings: &mut Vec<String>,
) -> Result<StoreTarget, ConfigError> {
    let Some(Said { value, place }) = said else {
        return Ok(StoreTarget::Embedded(DEFAULT_STORE.into()));
    };
    let target = StoreTarget::of_shards(&value);
    let target = target.map_err(|source| ConfigError::Store { place: place.clone(), source })?;
    if place.starts_with("--") && target.has_password() {
        warnings.push(format!(
            "{place} has a password, which everybody on this host can see in the list of \
             processes; use password_file"
        ));
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
