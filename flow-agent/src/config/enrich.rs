//! The sections `services`, `enrich` and `state`: as they were given, then checked.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

use super::values::{Said, text, texts, whole_number, yes_or_no};
use super::{ConfigError, number};
use crate::enrich::{EnrichConfig, GeoFiles, HostConfig, Lifetime, OwnServices};
use crate::state::StateConfig;

/// The keys of the section `enrich`.
pub const ENRICH_KEYS: &[&str] = &[
    "enabled",
    "sockets_interval_s",
    "listeners",
    "listeners_ttl_s",
    "units",
    "units_entries",
    "units_ttl_s",
    "geoip_country",
    "geoip_asn",
    "geoip_entries",
    "geoip_ttl_s",
    "host_names",
    "host_names_entries",
    "host_names_ttl_s",
    "host_names_negative_ttl_s",
];

/// The keys of the section `state`.
pub const STATE_KEYS: &[&str] = &["file", "interval_s", "max_age_s"];

const DEFAULT_STATE_FILE: &str = "/var/lib/flow-agent/state";
/// Names in the section `services`.
const MOST_SERVICES: usize = 10_000;
const LONGEST_SERVICE: usize = 63;
const MOST_ENTRIES: u64 = 1 << 24;
const YEAR_S: u64 = 31_536_000;

/// The sections as they were given; everything is optional.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "each is its key")]
pub struct EnrichSettings {
    pub services: BTreeMap<String, Said<Vec<String>>>,
    pub switches: BTreeMap<&'static str, Said<bool>>,
    pub numbers: BTreeMap<&'static str, Said<i64>>,
    pub paths: BTreeMap<&'static str, Said<String>>,
}

impl EnrichSettings {
    /// Takes the value of `section.key`; false if there is no such key.
    pub fn set(
        &mut self,
        section: &str,
        key: &str,
        place: String,
        value: Value,
    ) -> Result<bool, ConfigError> {
        if section == "services" {
            self.services.insert(key.into(), texts(place, value)?);
            return Ok(true);
        }
        let keys = if section == "enrich" { ENRICH_KEYS } else { STATE_KEYS };
        let Some(key) = keys.iter().find(|known| **known == key) else { return Ok(false) };
        match *key {
            "enabled" | "listeners" | "units" | "host_names" => {
                self.switches.insert(key, yes_or_no(place, value)?);
            }
            "file" | "geoip_country" | "geoip_asn" => {
                self.paths.insert(key, text(place, value)?);
            }
            _ => {
                self.numbers.insert(key, whole_number(place, value)?);
            }
        }
        Ok(true)
    }

    /// What is enriched; none if it is switched off.
    pub(super) fn check(&mut self) -> Result<Option<EnrichConfig>, ConfigError> {
        let services = own_services(std::mem::take(&mut self.services))?;
        let config = EnrichConfig {
            services,
            sockets_interval: self.seconds("sockets_interval_s", 5, 3600)?,
            listeners_ttl: {
                let ttl = self.seconds("listeners_ttl_s", 86_400, YEAR_S)?;
                self.switch("listeners", true).then_some(ttl)
            },
            units: {
                let lifetime = self.lifetime("units_entries", "units_ttl_s", 600)?;
                self.switch("units", true).then_some(lifetime)
            },
            geoip: GeoFiles {
                country: self.path("geoip_country", None)?,
                asn: self.path("geoip_asn", None)?,
            },
            geoip_lifetime: self.lifetime("geoip_entries", "geoip_ttl_s", 3600)?,
            hosts: {
                let config = HostConfig {
                    lifetime: self.lifetime("host_names_entries", "host_names_ttl_s", 3600)?,
                    negative_ttl: self.seconds("host_names_negative_ttl_s", 300, YEAR_S)?,
                };
                self.switch("host_names", false).then_some(config)
            },
        };
        Ok(self.switch("enabled", true).then_some(config))
    }

    /// How the state is kept; none if it is not.
    pub(super) fn check_state(&mut self) -> Result<Option<StateConfig>, ConfigError> {
        let file = self.path("file", Some(DEFAULT_STATE_FILE))?;
        let interval = self.seconds("interval_s", 60, 86_400)?;
        let max_age = self.seconds("max_age_s", 86_400, YEAR_S)?;
        Ok(file.map(|file| StateConfig { file, interval, max_age }))
    }

    fn switch(&self, key: &str, default: bool) -> bool {
        self.switches.get(key).map_or(default, |said| said.value)
    }

    fn seconds(&mut self, key: &str, default: u64, most: u64) -> Result<Duration, ConfigError> {
        number(self.numbers.remove(key), default, 1, most).map(Duration::from_secs)
    }

    fn lifetime(
        &mut self,
        entries: &str,
        ttl: &str,
        default_ttl: u64,
    ) -> Result<Lifetime, ConfigError> {
        const DEFAULT_ENTRIES: u64 = 1 << 16;
        let entries = number(self.numbers.remove(entries), DEFAULT_ENTRIES, 1, MOST_ENTRIES)?;
        Ok(Lifetime { entries: entries as usize, ttl: self.seconds(ttl, default_ttl, YEAR_S)? })
    }

    /// An empty text is none.
    fn path(&mut self, key: &str, default: Option<&str>) -> Result<Option<PathBuf>, ConfigError> {
        let Some(Said { value, place }) = self.paths.remove(key) else {
            return Ok(default.map(Into::into));
        };
        let path = PathBuf::from(&value);
        match (value.is_empty(), path.is_absolute()) {
            (true, _) => Ok(None),
            (false, true) => Ok(Some(path)),
            (false, false) => {
                let allowed = "an absolute path, or empty for none".into();
                Err(ConfigError::Value { place, value: format!("{value:?}"), allowed })
            }
        }
    }
}

fn own_services(said: BTreeMap<String, Said<Vec<String>>>) -> Result<OwnServices, ConfigError> {
    let mut services = BTreeMap::new();
    let mut taken: BTreeMap<(u8, u16), String> = BTreeMap::new();
    let count = said.len();
    for (name, Said { value, place }) in said {
        let rule = |problem: String| ConfigError::Rule { place: place.clone(), problem };
        let fits = (1..=LONGEST_SERVICE).contains(&name.trim().len())
            && !name.chars().any(char::is_control);
        if !fits {
            return Err(rule(format!(
                "a name has 1 to {LONGEST_SERVICE} octets and no control characters"
            )));
        }
        if count > MOST_SERVICES {
            return Err(rule(format!("there are more than {MOST_SERVICES} services")));
        }
        let mut ports = Vec::new();
        for text in value {
            let (protocol, range) = protocol_and_ports(&text).ok_or_else(|| {
                rule(format!(
                    "{text:?} is no port; write \"tcp/9000\" or \"udp/9000-9010\" (tcp, udp, sctp; \
                     1 to 65535)"
                ))
            })?;
            for port in range.clone() {
                if let Some(other) = taken.insert((protocol, port), name.clone())
                    && other != name
                {
                    return Err(rule(format!("{text:?} is that of {other:?}, too")));
                }
            }
            ports.push((protocol, range));
        }
        services.insert(name, ports);
    }
    Ok(OwnServices(services))
}

fn protocol_and_ports(text: &str) -> Option<(u8, RangeInclusive<u16>)> {
    use flow_common::key::protocol::{SCTP, TCP, UDP};
    let (protocol, ports) = text.split_once('/')?;
    let protocol = match protocol {
        "tcp" => TCP,
        "udp" => UDP,
        "sctp" => SCTP,
        _ => return None,
    };
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (first, last) = match ports.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(ports)?, port(ports)?),
    };
    (first <= last).then_some((protocol, first..=last))
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Settings};
    use super::*;

    fn check(text: &str) -> Result<Config, String> {
        let settings = Settings::parse(text, "agent.toml").map_err(|error| error.to_string())?;
        settings.check("host", 2).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_has_a_default_and_a_switch() {
        let enrich = check("").expect("valid").enrich.expect("on");
        assert_eq!(enrich.listeners_ttl, Some(Duration::from_secs(86_400)));
        assert_eq!(enrich.units.expect("on").entries, 65_536);
        assert!(enrich.geoip.is_empty() && enrich.hosts.is_none());
        let state = check("").expect("valid").state.expect("kept");
        assert_eq!(state.file, PathBuf::from(DEFAULT_STATE_FILE));

        let file = "[enrich]\nlisteners = false\nunits = false\nhost_names = true\n\
            geoip_asn = '/usr/share/asn.mmdb'\n[state]\nfile = ''";
        let config = check(file).expect("valid");
        assert_eq!(config.state, None);
        let enrich = config.enrich.expect("on");
        assert_eq!((enrich.listeners_ttl, enrich.units), (None, None));
        assert_eq!(enrich.geoip.asn, Some("/usr/share/asn.mmdb".into()));
        assert!(enrich.hosts.is_some());
        assert_eq!(check("[enrich]\nenabled = false").expect("valid").enrich, None);
    }

    #[test]
    fn own_services_are_names_with_ports() {
        let file = "[services]\n\"my app\" = ['tcp/9000', 'udp/9000-9001']\nm3ua = ['sctp/2905']";
        let services = check(file).expect("valid").enrich.expect("on").services;
        let all: Vec<_> = services.iter().collect();
        let expected =
            [(132, 2905, "m3ua"), (6, 9000, "my app"), (17, 9000, "my app"), (17, 9001, "my app")];
        assert_eq!(all, expected);
    }

    #[test]
    fn bad_sections_are_refused_by_file_line_and_key() {
        for (text, line, words) in [
            ("[services]\nx = ['9000']", 2, "services.x: \"9000\" is no port; write \"tcp/9000\""),
            ("[services]\nx = ['icmp/1']", 2, "is no port"),
            ("[services]\nx = ['tcp/0']", 2, "1 to 65535"),
            ("[services]\nx = ['tcp/9-8']", 2, "is no port"),
            ("[services]\nx = ['tcp/70000']", 2, "is no port"),
            ("[services]\nx = 9000", 2, "services.x is a whole number; it must be a list"),
            ("[services]\n'' = ['tcp/1']", 2, "a name has 1 to 63 octets"),
            (
                "[services]\na = ['tcp/1-9']\nb = ['tcp/5']",
                3,
                "services.b: \"tcp/5\" is that of \"a\", too",
            ),
            ("services = 1", 1, "services is a whole number; it must be a section"),
            ("[enrich]\nfast = 1", 2, "enrich.fast is no key"),
            ("[enrich]\nenabled = 1", 2, "enrich.enabled is a whole number; it must be true or"),
            ("[enrich]\nunits_entries = 0", 2, "units_entries is 0; it must be 1 to 16777216"),
            ("[enrich]\nsockets_interval_s = 3601", 2, "is 3601; it must be 1 to 3600"),
            ("[enrich]\ngeoip_asn = 'a.mmdb'", 2, "it must be an absolute path, or empty"),
            ("[state]\nfile = 'state'", 2, "state.file is \"state\"; it must be an absolute path"),
            ("[state]\ninterval_s = 0", 2, "state.interval_s is 0; it must be 1 to 86400"),
            ("[state]\npath = '/x'", 2, "state.path is no key"),
        ] {
            let error = check(text).expect_err(text);
            assert!(error.contains(&format!("agent.toml, line {line}: ")), "{text}: {error}");
            assert!(error.contains(words), "{text}: {error}");
            assert_eq!(error.lines().count(), 1, "{text}: {error}");
        }
    }
}
