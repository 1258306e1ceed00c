//! Settings as they were given, each with its place, not yet checked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use toml::{Spanned, Value};

use super::ConfigError;
use super::cache::CacheSettings;

/// Every key of the file.
pub const KEYS: [&str; 17] = [
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
    "batch_rows",
    "batch_age_ms",
    "queue_rows",
    "exclude_own_traffic",
];

/// Every section, with its keys.
pub const SECTIONS: [(&str, &[&str]); 5] = [
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
];

/// A file that is larger is none of ours.
const MOST_OCTETS: u64 = 1 << 20;

/// A value and where it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said<T> {
    /// As it was given.
    pub value: T,
    /// File, line and key, or the option.
    pub place: String,
}

impl<T> Said<T> {
    /// A value of the command line, if `option` was typed.
    pub fn typed(option: &str, value: Option<T>) -> Option<Self> {
        value.map(|value| Self { value, place: option.into() })
    }
}

/// What the command line or the file says; everything is optional.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `[NETNS/]NAME[:MODE]`, globs allowed.
    pub interfaces: Option<Said<Vec<String>>>,
    /// `[NETNS/]NAME`, globs allowed.
    pub exclude_interfaces: Option<Said<Vec<String>>>,
    /// `auto`, `xdp`, `xdp-generic` or `tc`.
    pub attach: Option<Said<String>>,
    /// `embedded:DIR` or `http://HOST:PORT/DATABASE`.
    pub store: Option<Said<String>>,
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
    /// Rows.
    pub batch_rows: Option<Said<i64>>,
    /// Milliseconds.
    pub batch_age_ms: Option<Said<i64>>,
    /// Rows.
    pub queue_rows: Option<Said<i64>>,
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
    /// The section `memory`.
    pub memory: MemorySettings,
    /// The section `cache`.
    pub cache: CacheSettings,
}

/// The section `memory`.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "each is its key")]
pub struct MemorySettings {
    pub enabled: Option<Said<bool>>,
    pub shrink_above_percent: Option<Said<i64>>,
    pub regrow_below_percent: Option<Said<i64>>,
    pub stall_percent: Option<Said<i64>>,
    pub floor_flows: Option<Said<i64>>,
}

impl MemorySettings {
    fn or(self, others: Self) -> Self {
        Self {
            enabled: self.enabled.or(others.enabled),
            shrink_above_percent: self.shrink_above_percent.or(others.shrink_above_percent),
            regrow_below_percent: self.regrow_below_percent.or(others.regrow_below_percent),
            stall_percent: self.stall_percent.or(others.stall_percent),
            floor_flows: self.floor_flows.or(others.floor_flows),
        }
    }
}

/// The section `filter`; numbers are given as texts.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "each is its key")]
pub struct FilterSettings {
    pub include: Option<Said<Vec<String>>>,
    pub exclude: Option<Said<Vec<String>>>,
    pub include_ports: Option<Said<Vec<String>>>,
    pub exclude_ports: Option<Said<Vec<String>>>,
    pub include_protocols: Option<Said<Vec<String>>>,
    pub exclude_protocols: Option<Said<Vec<String>>>,
}

impl FilterSettings {
    fn or(self, others: Self) -> Self {
        Self {
            include: self.include.or(others.include),
            exclude: self.exclude.or(others.exclude),
            include_ports: self.include_ports.or(others.include_ports),
            exclude_ports: self.exclude_ports.or(others.exclude_ports),
            include_protocols: self.include_protocols.or(others.include_protocols),
            exclude_protocols: self.exclude_protocols.or(others.exclude_protocols),
        }
    }
}

/// The sections alone; the keys above them have been read.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Sections {
    filter: BTreeMap<String, Spanned<Value>>,
    sampling: BTreeMap<String, Spanned<Value>>,
    status: BTreeMap<String, Spanned<Value>>,
    memory: BTreeMap<String, Spanned<Value>>,
    cache: BTreeMap<String, Spanned<Value>>,
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
            ("status", sections.status),
            ("memory", sections.memory),
            ("cache", sections.cache),
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
            batch_rows: self.batch_rows.or(others.batch_rows),
            batch_age_ms: self.batch_age_ms.or(others.batch_age_ms),
            queue_rows: self.queue_rows.or(others.queue_rows),
            exclude_own_traffic: self.exclude_own_traffic.or(others.exclude_own_traffic),
            filter: self.filter.or(others.filter),
            sampling_mode: self.sampling_mode.or(others.sampling_mode),
            sampling_rate: self.sampling_rate.or(others.sampling_rate),
            status_listen: self.status_listen.or(others.status_listen),
            memory: self.memory.or(others.memory),
            cache: self.cache.or(others.cache),
        }
    }

    fn set(&mut self, key: &str, place: String, value: Value) -> Result<(), ConfigError> {
        match key {
            "interfaces" => self.interfaces = Some(texts(place, value)?),
            "exclude_interfaces" => self.exclude_interfaces = Some(texts(place, value)?),
            "attach" => self.attach = Some(text(place, value)?),
            "store" => self.store = Some(text(place, value)?),
            "exporter" => self.exporter = Some(text(place, value)?),
            "pin_dir" => self.pin_dir = Some(text(place, value)?),
            "decapsulate" => self.decapsulate = Some(yes_or_no(place, value)?),
            "drain_interval_ms" => self.drain_interval_ms = Some(whole_number(place, value)?),
            "table_memory_mib" => self.table_memory_mib = Some(whole_number(place, value)?),
            "shards" => self.shards = Some(whole_number(place, value)?),
            "max_flows" => self.max_flows = Some(whole_number(place, value)?),
            "idle_timeout_s" => self.idle_timeout_s = Some(whole_number(place, value)?),
            "active_timeout_s" => self.active_timeout_s = Some(whole_number(place, value)?),
            "batch_rows" => self.batch_rows = Some(whole_number(place, value)?),
            "batch_age_ms" => self.batch_age_ms = Some(whole_number(place, value)?),
            "queue_rows" => self.queue_rows = Some(whole_number(place, value)?),
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
        if let Some(key) = key.strip_prefix("cache.")
            && super::cache::KEYS.contains(&key)
        {
            return self.cache.set(key, place, value);
        }
        let (filter, memory) = (&mut self.filter, &mut self.memory);
        match key {
            "filter.include" => filter.include = Some(texts(place, value)?),
            "filter.exclude" => filter.exclude = Some(texts(place, value)?),
            "filter.include_ports" => filter.include_ports = Some(numbers(place, value)?),
            "filter.exclude_ports" => filter.exclude_ports = Some(numbers(place, value)?),
            "filter.include_protocols" => filter.include_protocols = Some(numbers(place, value)?),
            "filter.exclude_protocols" => filter.exclude_protocols = Some(numbers(place, value)?),
            "sampling.mode" => self.sampling_mode = Some(text(place, value)?),
            "sampling.rate" => self.sampling_rate = Some(whole_number(place, value)?),
            "status.listen" => self.status_listen = Some(text(place, value)?),
            "memory.enabled" => memory.enabled = Some(yes_or_no(place, value)?),
            "memory.shrink_above_percent" => {
                memory.shrink_above_percent = Some(whole_number(place, value)?);
            }
            "memory.regrow_below_percent" => {
                memory.regrow_below_percent = Some(whole_number(place, value)?);
            }
            "memory.stall_percent" => memory.stall_percent = Some(whole_number(place, value)?),
            "memory.floor_flows" => memory.floor_flows = Some(whole_number(place, value)?),
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

pub(super) fn whole_number(place: String, value: Value) -> Result<Said<i64>, ConfigError> {
    match value {
        Value::Integer(value) => Ok(Said { value, place }),
        other => Err(wrong_type(place, &other, "a whole number, without quotes")),
    }
}

pub(super) fn yes_or_no(place: String, value: Value) -> Result<Said<bool>, ConfigError> {
    match value {
        Value::Boolean(value) => Ok(Said { value, place }),
        other => Err(wrong_type(place, &other, "true or false, without quotes")),
    }
}

pub(super) fn text(place: String, value: Value) -> Result<Said<String>, ConfigError> {
    match value {
        Value::String(value) => Ok(Said { value, place }),
        other => Err(wrong_type(place, &other, "a text: \"...\"")),
    }
}

fn texts(place: String, value: Value) -> Result<Said<Vec<String>>, ConfigError> {
    let needed = "a list of texts: [\"eth0\"]";
    list(place, value, needed, |value| match value {
        Value::String(text) => Some(text),
        _ => None,
    })
}

/// A list of numbers, or of texts that stand for some.
fn numbers(place: String, value: Value) -> Result<Said<Vec<String>>, ConfigError> {
    let needed = "a list of numbers or texts: [443, \"8000-8100\"], [\"tcp\", 47]";
    list(place, value, needed, |value| match value {
        Value::Integer(number) => Some(number.to_string()),
        Value::String(text) => Some(text),
        _ => None,
    })
}

fn list(
    place: String,
    value: Value,
    needed: &'static str,
    item: impl Fn(Value) -> Option<String>,
) -> Result<Said<Vec<String>>, ConfigError> {
    let Value::Array(values) = value else { return Err(wrong_type(place, &value, needed)) };
    match values.into_iter().map(item).collect() {
        Some(value) => Ok(Said { value, place }),
        None => Err(ConfigError::Type { place, found: "a list of other values", needed }),
    }
}

fn wrong_type(place: String, value: &Value, needed: &'static str) -> ConfigError {
    let found = match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number with a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    };
    ConfigError::Type { place, found, needed }
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
