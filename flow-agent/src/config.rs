//! Configuration: what was typed and what the file says become one checked value.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::Exit;
use crate::attach::{AttachError, AttachMode, InterfaceSpec};
use crate::batch::BatchLimits;
use crate::cache::Timeouts;
use crate::sink::{SinkError, StoreTarget};

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message says what each field is")]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration {path} cannot be read: {source}")]
    Read { path: String, source: std::io::Error },
    /// The file is not TOML, or has an unknown or wrong key; the text names line and key.
    #[error("configuration {path}: {problem}")]
    Parse { path: String, problem: String },
    /// A value is out of range.
    #[error("{key} = {value}: it must be {allowed}")]
    Range { key: &'static str, value: String, allowed: &'static str },
    /// An interface cannot be understood.
    #[error(transparent)]
    Interface(#[from] AttachError),
    /// The store's address cannot be understood.
    #[error(transparent)]
    Store(#[from] SinkError),
}

impl ConfigError {
    /// The process exit code for these errors.
    pub const EXIT: Exit = Exit::Usage;
}

/// What `flow-agent run` does.
#[derive(Clone, Debug)]
pub struct Config {
    /// Interfaces to meter; none: all hardware interfaces.
    pub interfaces: Vec<InterfaceSpec>,
    /// How incoming packets are metered where the interface does not say.
    pub attach: AttachMode,
    /// Where rows go.
    pub store: StoreTarget,
    /// This host's name in the rows.
    pub exporter: String,
    /// Time between two drains.
    pub drain_interval: Duration,
    /// Memory for the kernel tables, in bytes.
    pub table_memory_bytes: u64,
    /// Cache threads.
    pub shards: usize,
    /// Open flows in the cache.
    pub max_flows: usize,
    /// When flows are emitted.
    pub timeouts: Timeouts,
    /// When batches are frozen.
    pub batch: BatchLimits,
    /// How long a stopping agent waits for a store that is away.
    pub stop_patience: Duration,
}

/// The file; every key is optional.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// `[NETNS/]NAME[:MODE]`, globs allowed.
    pub interfaces: Option<Vec<String>>,
    /// `auto`, `xdp`, `xdp-generic` or `tc`.
    pub attach: Option<AttachMode>,
    /// `embedded:DIR` or `http://HOST:PORT/DATABASE`.
    pub store: Option<String>,
    /// Default: the host name.
    pub exporter: Option<String>,
    /// Milliseconds, 10 to 60,000.
    pub drain_interval_ms: Option<u64>,
    /// MiB of kernel memory for the flow tables.
    pub table_memory_mib: Option<u64>,
    /// Cache threads.
    pub shards: Option<usize>,
    /// Open flows in the cache.
    pub max_flows: Option<usize>,
    /// Seconds.
    pub idle_timeout_s: Option<u64>,
    /// Seconds.
    pub active_timeout_s: Option<u64>,
    /// Rows.
    pub batch_rows: Option<usize>,
    /// Milliseconds.
    pub batch_age_ms: Option<u64>,
}

const DEFAULT_STORE: &str = "embedded:/var/lib/flow-agent/store";
const DEFAULT_TABLE_MEMORY_MIB: u64 = 128;
const DEFAULT_MAX_FLOWS: usize = 1_000_000;
const STOP_PATIENCE: Duration = Duration::from_secs(30);

impl ConfigFile {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is not TOML, or has an unknown key.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: name.clone(), source })?;
        toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            let problem = format!("line {line}: {}", error.message());
            ConfigError::Parse { path: name, problem }
        })
    }

    /// Checks every value and fills in the defaults.
    ///
    /// # Errors
    /// The first value that is not allowed.
    pub fn check(self, host_name: &str, cpus: usize) -> Result<Config, ConfigError> {
        let interfaces = self.interfaces.unwrap_or_default();
        let drain_interval_ms =
            range("drain_interval_ms", self.drain_interval_ms, 1000, 10, 60_000, "10 to 60000")?;
        let memory = range(
            "table_memory_mib",
            self.table_memory_mib,
            DEFAULT_TABLE_MEMORY_MIB,
            1,
            65_536,
            "1 to 65536",
        )?;
        let idle = range("idle_timeout_s", self.idle_timeout_s, 15, 1, 86_400, "1 to 86400")?;
        let active = range("active_timeout_s", self.active_timeout_s, 60, 1, 86_400, "1 to 86400")?;
        let age = range("batch_age_ms", self.batch_age_ms, 1000, 10, 60_000, "10 to 60000")?;
        let rows = range(
            "batch_rows",
            self.batch_rows,
            BatchLimits::default().rows,
            1,
            BatchLimits::MOST_ROWS,
            "1 to 1048448",
        )?;
        let max_flows =
            range("max_flows", self.max_flows, DEFAULT_MAX_FLOWS, 1, 1 << 30, "1 to 2^30")?;
        let shards = range("shards", self.shards, cpus.clamp(1, 64), 1, 1024, "1 to 1024")?;
        Ok(Config {
            interfaces: interfaces.iter().map(|spec| spec.parse()).collect::<Result<_, _>>()?,
            attach: self.attach.unwrap_or_default(),
            store: self.store.as_deref().unwrap_or(DEFAULT_STORE).parse()?,
            exporter: self.exporter.unwrap_or_else(|| host_name.to_string()),
            drain_interval: Duration::from_millis(drain_interval_ms),
            table_memory_bytes: memory << 20,
            shards,
            max_flows,
            timeouts: Timeouts {
                idle: Duration::from_secs(idle),
                active: Duration::from_secs(active),
                ..Timeouts::default()
            },
            batch: BatchLimits { rows, age: Duration::from_millis(age) },
            stop_patience: STOP_PATIENCE,
        })
    }
}

fn range<T: PartialOrd + std::fmt::Display>(
    key: &'static str,
    value: Option<T>,
    default: T,
    least: T,
    most: T,
    allowed: &'static str,
) -> Result<T, ConfigError> {
    let value = value.unwrap_or(default);
    if value < least || value > most {
        return Err(ConfigError::Range { key, value: value.to_string(), allowed });
    }
    Ok(value)
}

/// The default place of the embedded store's data.
pub fn default_store_dir() -> PathBuf {
    PathBuf::from(DEFAULT_STORE.trim_start_matches("embedded:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Config, String> {
        let file: ConfigFile = toml::from_str(text).map_err(|error| error.message().to_string())?;
        file.check("host", 2).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_is_the_default() {
        let config = check("").expect("valid");
        assert_eq!(config.exporter, "host");
        assert_eq!(config.timeouts, Timeouts::default());
        assert_eq!(config.shards, 2);
        assert_eq!(config.store, StoreTarget::Embedded(default_store_dir()));
    }

    #[test]
    fn bad_values_name_their_key_and_what_is_allowed() {
        for (text, key) in [
            ("drain_interval_ms = 1", "drain_interval_ms"),
            ("idle_timeout_s = 0", "idle_timeout_s"),
            ("batch_rows = 2000000", "batch_rows"),
            ("max_flows = 0", "max_flows"),
            ("idle_timeout = 3", "idle_timeout"),
            ("attach = 'fast'", "fast"),
            ("store = 'ftp://x'", "ftp://x"),
            ("interfaces = ['eth0:quick']", "quick"),
        ] {
            let error = check(text).expect_err(text);
            assert!(error.contains(key), "{text}: {error}");
        }
    }
}
