//! Where the configuration comes from, so that it can be read again.

use std::path::PathBuf;
use std::time::Duration;

use super::{CacheChoice, Config, ConfigError, Settings};
use crate::analytics::AnalyticsConfig;

/// The file and what overrides it.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file, if one was named.
    pub file: Option<PathBuf>,
    /// What the command line says.
    pub typed: Settings,
    /// This host's name.
    pub host_name: String,
    /// CPUs that this process may use.
    pub cpus: usize,
}

impl Source {
    /// Reads the file and checks everything.
    ///
    /// # Errors
    /// The file cannot be read, or says what is not allowed.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let file = match &self.file {
            Some(path) => Settings::read(path)?,
            None => Settings::default(),
        };
        self.typed.clone().or(file).check(&self.host_name, self.cpus)
    }
}

impl Config {
    /// The keys that differ and count only at the start.
    pub fn needs_restart(&self, other: &Self) -> Vec<&'static str> {
        let differences = [
            ("store", self.store != other.store),
            ("exporter", self.exporter != other.exporter),
            ("drain_interval_ms", self.drain_interval != other.drain_interval),
            ("decapsulate", self.decapsulate != other.decapsulate),
            ("pin_dir", self.pin_dir != other.pin_dir),
            ("table_memory_mib", self.table_memory_bytes != other.table_memory_bytes),
            ("shards", self.shards != other.shards),
            ("max_flows", self.cache.limits.max_flows != other.cache.limits.max_flows),
            ("idle_timeout_s", self.cache.limits.timeouts.idle != other.cache.limits.timeouts.idle),
            (
                "active_timeout_s",
                self.cache.limits.timeouts.active != other.cache.limits.timeouts.active,
            ),
            ("[cache]", self.cache_section() != other.cache_section()),
            ("[batch]", self.batch != other.batch),
            ("[run]", self.capabilities != other.capabilities),
            ("[status]", self.status != other.status),
            ("[memory]", self.memory != other.memory),
            ("[retention]", self.retention != other.retention),
            ("[analytics]", self.said_of_analytics() != other.said_of_analytics()),
            ("[enrich] or [services]", self.enrich != other.enrich),
            ("[state]", self.state != other.state),
            ("[delivery]", self.delivery != other.delivery),
            ("[spool]", self.spool != other.spool),
        ];
        differences.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }

    /// Without what follows from other keys.
    fn said_of_analytics(&self) -> AnalyticsConfig {
        AnalyticsConfig { change_lag: Duration::ZERO, ..self.analytics.clone() }
    }

    /// What the section `cache` says alone.
    fn cache_section(&self) -> CacheChoice {
        let mut choice = self.cache;
        choice.limits.max_flows = 0;
        choice.limits.timeouts.idle = Duration::ZERO;
        choice.limits.timeouts.active = Duration::ZERO;
        choice
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::{KEYS, SECTIONS};
    use super::*;

    fn config(text: &str) -> Config {
        let settings = Settings::parse(text, "test").expect("valid");
        settings.check("host", 2).expect("valid")
    }

    #[test]
    fn every_key_is_followed_or_named_as_one_that_needs_a_restart() {
        let followed = ["interfaces", "exclude_interfaces", "attach", "exclude_own_traffic"];
        let values = [
            ("store", "'http://db'"),
            ("exporter", "'other'"),
            ("decapsulate", "true"),
            ("pin_dir", "'/sys/fs/bpf/other'"),
        ];
        for key in KEYS {
            let value = values.iter().find(|(name, _)| *name == key).map_or("77", |(_, v)| v);
            let value = if followed.contains(&key) { continue } else { value };
            let changed = config(&format!("{key} = {value}"));
            assert_eq!(config("").needs_restart(&changed), [key]);
        }
        // What is followed needs none.
        let file = "interfaces = ['eth7']\nexclude_interfaces = ['eth8']\nattach = 'tc'\n\
            exclude_own_traffic = false\n[filter]\nexclude = ['10.0.0.0/8']\n\
            [sampling]\nmode = 'flow'\nrate = 2";
        assert_eq!(config("").needs_restart(&config(file)), Vec::<&str>::new());
        for (section, keys) in SECTIONS {
            let (values, named) = match section {
                "filter" | "sampling" | "cache" => continue,
                "run" => ("capabilities = 'keep'", "[run]"),
                "status" => ("listen = ''", "[status]"),
                "memory" => ("floor_flows = 7", "[memory]"),
                "batch" => ("age_ms = 77", "[batch]"),
                "services" => ("mine = ['tcp/1']", "[enrich] or [services]"),
                "enrich" => ("enabled = false", "[enrich] or [services]"),
                "state" => ("interval_s = 77", "[state]"),
                "delivery" => ("user = 'flows'", "[delivery]"),
                "spool" => ("max_mib = 77", "[spool]"),
                "retention" => ("flows_days = 7", "[retention]"),
                "analytics" => ("scan_ports = 50", "[analytics]"),
                other => panic!("is [{other}] followed or does it need a restart?"),
            };
            let restart = config("").needs_restart(&config(&format!("[{section}]\n{values}")));
            assert_eq!(restart, [named], "{keys:?}");
        }
        for line in [
            "enabled = false",
            "policy = 'fifo'",
            "max_memory_mib = 64",
            "ttl_s = 5",
            "linger_s = 5",
            "statistics = 'full'",
            "hot_flows = 5",
            "udp_idle_timeout_s = 5",
        ] {
            let changed = config(&format!("[cache]\n{line}"));
            assert_eq!(config("").needs_restart(&changed), ["[cache]"], "{line}");
        }
    }
}
