//! Settings as they were given, each with its place, not yet checked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use toml::{Spanned, Value};

use super::ConfigError;
use super::analytics::{self, AnalyticsSettings};
use super::batch::BatchSettings;
use super::cache::CacheSettings;
use super::delivery::DeliverySettings;
use super::enrich::{ENRICH_KEYS, EnrichSettings, STATE_KEYS};
use super::retention::RetentionSettings;
use super::sections::{FilterSettings, MemorySettings};
use super::spool::{self, SpoolSection};
use super::values::{Said, text, text_or_texts, texts, whole_number, wrong_type, yes_or_no};

/// Every key of the file.
pub const KEYS: [&str; 14] = [
    "interfaces",
    "exclude_interfaces",
    "attach",
    "store",
    "exporter",
    "decapsulate",
    "pin_dir",
    "drain_interval_ms",
    "table_memory_mib",
    "shards",
    "max_flows",
    "idle_timeout_s",
    "active_timeout_s",
    "exclude_own_traffic",
];

/// Every section, with its keys; those of `services` are free.
pub const SECTIONS: [(&str, &[&str]); 14] = [
    (
        "filter",
        &[
            "include",
            "exclude",
            "include_ports",
            "exclude_ports",
            "include_protocols",
            "exclude_protocols",
        ],
    ),
    ("sampling", &["mode", "rate"]),
    ("run", &["capabilities"]),
    ("status", &["listen"]),
    (
        "memory",
        &[
            "enabled",
            "shrink_above_percent",
            "regrow_below_percent",
            "stall_percent",
            "floor_flows",
        ],
    ),
    ("cache", &super::cache::KEYS),
    ("batch", &super::batch::KEYS),
    ("services", &[]),
    ("enrich", ENRICH_KEYS),
    ("state", STATE_KEYS),
    ("analytics", analytics::KEYS),
    ("delivery", super::delivery::KEYS),
    ("spool", spool::KEYS),
    ("retention", &["flows_days", "flows_1m_days", "flows_1h_days"]),
];

/// A file that is larger is none of ours.
const MOST_OCTETS: u64 = 1 << 20;

/// What the command line or the file says; everything is optional.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `[NETNS/]NAME[:MODE]`, globs allowed.
    pub interfaces: Option<Said<Vec<String>>>,
    /// `[NETNS/]NAME`, globs allowed.
    pub exclude_interfaces: Option<Said<Vec<String>>>,
    /// `auto`, `xdp`, `xdp-generic` or `tc`.
    pub attach: Option<Said<String>>,
    /// `embedded:DIR`, or URLs of replicas with commas for each shard.
    pub store: Option<Said<Vec<String>>>,
    /// This host's name in the rows.
    pub exporter: Option<Said<String>>,
    /// Meter packets in tunnels as what the tunnels carry.
    pub decapsulate: Option<Said<bool>>,
    /// A folder in a BPF file system, or empty for none.
    pub pin_dir: Option<Said<String>>,
    /// Milliseconds between two drains.
    pub drain_interval_ms: Option<Said<i64>>,
    /// MiB of kernel memory for the flow tables.
    pub table_memory_mib: Option<Said<i64>>,
    /// Cache threads.
    pub shards: Option<Said<i64>>,
    /// Open flows in the cache.
    pub max_flows: Option<Said<i64>>,
    /// Seconds.
    pub idle_timeout_s: Option<Said<i64>>,
    /// Seconds.
    pub active_timeout_s: Option<Said<i64>>,
    /// Leave out the agent's own connections to the store.
    pub exclude_own_traffic: Option<Said<bool>>,
    /// The section `filter`.
    pub filter: FilterSettings,
    /// `flow` or `packet`.
    pub sampling_mode: Option<Said<String>>,
    /// 1 in so many.
    pub sampling_rate: Option<Said<i64>>,
    /// Where the status is served, or empty for nowhere.
    pub status_listen: Option<Said<String>>,
    /// `auto`, `drop` or `keep`.
    pub capabilities: Option<Said<String>>,
    /// The section `memory`.
    pub memory: MemorySettings,
    /// The section `retention`.
    pub retention: RetentionSettings,
    /// The section `analytics`, which only the file has.
    pub analytics: AnalyticsSettings,
    /// The sections `services`, `enrich` and `state`.
    pub enrich: EnrichSettings,
    /// The section `cache`.
    pub cache: CacheSettings,
    /// The section `delivery`.
    pub delivery: DeliverySettings,
    /// The section `batch`, which only the file has.
    pub batch: BatchSettings,
    /// The section `spool`.
    pub spool: SpoolSection,
}

/// The sections alone; the keys above them have been read.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Sections {
    filter: BTreeMap<String, Spanned<Value>>,
    sampling: BTreeMap<String, Spanned<Value>>,
    run: BTreeMap<String, Spanned<Value>>,
    status: BTreeMap<String, Spanned<Value>>,
    memory: BTreeMap<String, Spanned<Value>>,
    analytics: BTreeMap<String, Spanned<Value>>,
    retention: BTreeMap<String, Spanned<Value>>,
    cache: BTreeMap<String, Spanned<Value>>,
    batch: BTreeMap<String, Spanned<Value>>,
    services: BTreeMap<String, Spanned<Value>>,
    enrich: BTreeMap<String, Spanned<Value>>,
    state: BTreeMap<String, Spanned<Value>>,
    delivery: BTreeMap<String, Spanned<Value>>,
    spool: BTreeMap<String, Spanned<Value>>,
}

impl Settings {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is too large, or as [`Settings::parse`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let mut octets = Vec::new();
        let text = File::open(path)
            .and_then(|file| file.take(MOST_OCTETS + 1).read_to_end(&mut octets))
            .and_then(|_| {
                String::from_utf8(octets).map_err(|_| io::Error::other("it is no text in UTF-8"))
            })
            .map_err(|source| ConfigError::Read { path: name.clone(), source })?;
        if text.len() as u64 > MOST_OCTETS {
            return Err(ConfigError::TooLarge { path: name });
        }
        Self::parse(&text, &name)
    }

    /// Takes a file's text; `name` is for messages.
    ///
    /// # Errors
    /// It is not TOML, or has an unknown key or a value of a wrong type.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        let line = |octet: usize| text[..octet].matches('\n').count() + 1;
        let table: BTreeMap<String, Spanned<Value>> = toml::from_str(text).map_err(|error| {
            let place =
                error.span().map_or(String::new(), |span| format!(", line {}", line(span.start)));
            let problem = match error.message() {
                // Only a number beyond 64 bits is TOML and no value.
                message if message.starts_with("invalid type: integer") => {
                    "the number is too large".to_string()
                }
                message => message.replace('\n', ", "),
            };
            ConfigError::Parse { path: name.into(), problem: format!("{place}: {problem}") }
        })?;
        let mut settings = Self::default();
        let place = |key: &str, value: &Spanned<Value>| {
            format!("configuration {name}, line {}: {key}", line(value.span().start))
        };
        for (key, value) in table {
            settings.set(&key, place(&key, &value), value.into_inner())?;
        }
        let sections: Sections = toml::from_str(text).map_err(|error| ConfigError::Parse {
            path: name.into(),
            problem: format!(": {}", error.message()),
        })?;
        let sections = [
            ("filter", sections.filter),
            ("sampling", sections.sampling),
            ("run", sections.run),
            ("status", sections.status),
            ("memory", sections.memory),
            ("cache", sections.cache),
            ("batch", sections.batch),
            ("services", sections.services),
            ("enrich", sections.enrich),
            ("state", sections.state),
            ("analytics", sections.analytics),
            ("delivery", sections.delivery),
            ("spool", sections.spool),
            ("retention", sections.retention),
        ];
        for (section, values) in sections {
            for (key, value) in values {
                let key = format!("{section}.{key}");
                settings.set_in_section(&key, place(&key, &value), value.into_inner())?;
            }
        }
        Ok(settings)
    }

    /// These, and `others` where these say nothing.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            interfaces: self.interfaces.or(others.interfaces),
            exclude_interfaces: self.exclude_interfaces.or(others.exclude_interfaces),
            attach: self.attach.or(others.attach),
            store: self.store.or(others.store),
            exporter: self.exporter.or(others.exporter),
            decapsulate: self.decapsulate.or(others.decapsulate),
            pin_dir: self.pin_dir.or(others.pin_dir),
            drain_interval_ms: self.drain_interval_ms.or(others.drain_interval_ms),
            table_memory_mib: self.table_memory_mib.or(others.table_memory_mib),
            shards: self.shards.or(others.shards),
            max_flows: self.max_flows.or(others.max_flows),
            idle_timeout_s: self.idle_timeout_s.or(others.idle_timeout_s),
            active_timeout_s: self.active_timeout_s.or(others.active_timeout_s),
            exclude_own_traffic: self.exclude_own_traffic.or(others.exclude_own_traffic),
            filter: self.filter.or(others.filter),
            sampling_mode: self.sampling_mode.or(others.sampling_mode),
            sampling_rate: self.sampling_rate.or(others.sampling_rate),
            status_listen: self.status_listen.or(others.status_listen),
            capabilities: self.capabilities.or(others.capabilities),
            memory: self.memory.or(others.memory),
            retention: self.retention.or(others.retention),
            analytics: others.analytics,
            enrich: self.enrich.or(others.enrich),
            cache: self.cache.or(others.cache),
            delivery: self.delivery.or(others.delivery),
            batch: others.batch,
            spool: self.spool.or(others.spool),
        }
    }

    fn set(&mut self, key: &str, place: String, value: Value) -> Result<(), ConfigError> {
        match key {
            "interfaces" => self.interfaces = Some(texts(place, value)?),
            "exclude_interfaces" => self.exclude_interfaces = Some(texts(place, value)?),
            "attach" => self.attach = Some(text(place, value)?),
            "store" => self.store = Some(text_or_texts(place, value)?),
            "exporter" => self.exporter = Some(text(place, value)?),
            "pin_dir" => self.pin_dir = Some(text(place, value)?),
            "decapsulate" => self.decapsulate = Some(yes_or_no(place, value)?),
            "drain_interval_ms" => self.drain_interval_ms = Some(whole_number(place, value)?),
            "table_memory_mib" => self.table_memory_mib = Some(whole_number(place, value)?),
            "shards" => self.shards = Some(whole_number(place, value)?),
            "max_flows" => self.max_flows = Some(whole_number(place, value)?),
            "idle_timeout_s" => self.idle_timeout_s = Some(whole_number(place, value)?),
            "active_timeout_s" => self.active_timeout_s = Some(whole_number(place, value)?),
            "exclude_own_traffic" => self.exclude_own_traffic = Some(yes_or_no(place, value)?),
            key if SECTIONS.iter().any(|(section, _)| *section == key) => {
                if !value.is_table() {
                    return Err(wrong_type(place, &value, "a section, with its keys below it"));
                }
            }
            _ => {
                let sections = SECTIONS.map(|(section, _)| format!("[{section}]"));
                let known = format!("{}, {}", KEYS.join(", "), sections.join(", "));
                return Err(ConfigError::UnknownKey { place, known });
            }
        }
        Ok(())
    }

    fn set_in_section(
        &mut self,
        key: &str,
        place: String,
        value: Value,
    ) -> Result<(), ConfigError> {
        if let Some(name) = key.strip_prefix("analytics.")
            && self.analytics.set(name, place.clone(), value.clone())?
        {
            return Ok(());
        }
        if let Some((section @ ("services" | "enrich" | "state"), key)) = key.split_once('.')
            && self.enrich.set(section, key, place.clone(), value.clone())?
        {
            return Ok(());
        }
        if let Some(key) = key.strip_prefix("cache.")
            && super::cache::KEYS.contains(&key)
        {
            return self.cache.set(key, place, value);
        }
        if let Some(key) = key.strip_prefix("batch.")
            && super::batch::KEYS.contains(&key)
        {
            return self.batch.set(key, place, value);
        }
        if let Some(key) = key.strip_prefix("spool.")
            && self.spool.set(key, place.clone(), value.clone())?
        {
            return Ok(());
        }
        if let Some(key) = key.strip_prefix("filter.")
            && self.filter.set(key, place.clone(), value.clone())?
        {
            return Ok(());
        }
        if let Some(key) = key.strip_prefix("delivery.")
            && self.delivery.set(key, place.clone(), value.clone())?
        {
            return Ok(());
        }
        if let Some(key) = key.strip_prefix("memory.")
            && self.memory.set(key, place.clone(), value.clone())?
        {
            return Ok(());
        }
        if let Some(key) = key.strip_prefix("retention.")
            && self.retention.set(key, place.clone(), value.clone())?
        {
            return Ok(());
        }
        match key {
            "sampling.mode" => self.sampling_mode = Some(text(place, value)?),
            "sampling.rate" => self.sampling_rate = Some(whole_number(place, value)?),
            "run.capabilities" => self.capabilities = Some(text(place, value)?),
            "status.listen" => self.status_listen = Some(text(place, value)?),
            _ => {
                let known = SECTIONS
                    .iter()
                    .filter(|(section, _)| key.split('.').next() == Some(section))
                    .flat_map(|(_, keys)| keys.iter().copied())
                    .collect::<Vec<_>>()
                    .join(", ");
                return Err(ConfigError::UnknownKey { place, known });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_file_a_folder_and_no_text_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let binary = folder.path().join("binary");
        std::fs::write(&binary, [0xff, 0xfe]).expect("ours");
        for (path, words) in [
            (Path::new("/dev/zero"), "/dev/zero is larger than 1 MiB"),
            (folder.path(), "directory"),
            (&binary, "no text in UTF-8"),
            (&folder.path().join("missing"), "missing cannot be read"),
        ] {
            let error = Settings::read(path).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
