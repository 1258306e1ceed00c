//! Settings as they were given, each with its place, not yet checked.

use toml::Value;

use super::analytics::AnalyticsSettings;
use super::batch::BatchSettings;
use super::cache::CacheSettings;
use super::delivery::DeliverySettings;
use super::enrich::EnrichSettings;
use super::layers::{self, Given};
use super::log::LogSettings;
use super::retention::RetentionSettings;
use super::sections::{FilterSettings, MemorySettings};
use super::spool::SpoolSection;
use super::status::StatusSettings;
use super::values::{Said, text, text_or_texts, texts, whole_number, yes_or_no};
use super::{ConfigError, keys};

/// What was said; everything is optional.
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
    /// Read the file again when it has changed.
    pub reload_on_change: Option<Said<bool>>,
    /// The section `log`.
    pub log: LogSettings,
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
    /// The kernel is to count what programs cost.
    pub kernel_statistics: Option<Said<bool>>,
    /// The rest of the section `status`.
    pub status: StatusSettings,
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

impl Settings {
    /// What a file's text says; `name` is for messages.
    ///
    /// # Errors
    /// Everything that is wrong: it is not TOML, or has an unknown key or a value of a wrong type.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        let (given, mut problems) = layers::parse(text, name);
        let mut settings = Self::default();
        for value in given {
            if let Err(error) = settings.take(value) {
                problems.push(error);
            }
        }
        if problems.is_empty() { Ok(settings) } else { Err(ConfigError::all(problems)) }
    }

    /// Takes one value.
    ///
    /// # Errors
    /// There is no such key, or the value is of a wrong type.
    pub(super) fn take(&mut self, given: Given) -> Result<(), ConfigError> {
        let Given { key, value, place, .. } = given;
        if key.contains('.') {
            self.set_in_section(&key, place, value)
        } else {
            self.set(&key, place, value)
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
            "reload_on_change" => self.reload_on_change = Some(yes_or_no(place, value)?),
            // It has been followed already: what it stands for is given, too.
            "profile" => drop(text(place, value)?),
            key => return Err(layers::unknown(key, place)),
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
            && keys::find(&format!("cache.{key}")).is_some()
        {
            return self.cache.set(key, place, value);
        }
        if let Some(key) = key.strip_prefix("batch.")
            && keys::find(&format!("batch.{key}")).is_some()
        {
            return self.batch.set(key, place, value);
        }
        if let Some(key) = key.strip_prefix("spool.")
            && self.spool.set(key, place.clone(), value.clone())?
        {
            return Ok(());
        }
        if let Some(key) = key.strip_prefix("status.")
            && self.status.set(key, place.clone(), value.clone())?
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
            "run.kernel_statistics" => self.kernel_statistics = Some(yes_or_no(place, value)?),
            "status.listen" => self.status_listen = Some(text(place, value)?),
            "log.format" => self.log.format = Some(text(place, value)?),
            "log.level" => self.log.level = Some(text(place, value)?),
            "log.repeat_limit" => self.log.repeat_limit = Some(whole_number(place, value)?),
            "log.repeat_interval_s" => {
                self.log.repeat_interval_s = Some(whole_number(place, value)?);
            }
            key => return Err(layers::unknown(key, place)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::layers;

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
            let error = layers::read(path).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
