//! The section `delivery`: as it was given, and checked.

use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

use super::values::{Said, text, whole_number};
use super::{ConfigError, number};
use crate::sink::quarantine::DEFAULT_DIR;
use crate::sink::{AccessConfig, Codec, PasswordFile, Placement, TlsFiles};

/// The section as it was given.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "each is its key")]
pub struct DeliverySettings {
    pub user: Option<Said<String>>,
    pub password_file: Option<Said<String>>,
    pub ca_file: Option<Said<String>>,
    pub client_cert_file: Option<Said<String>>,
    pub client_key_file: Option<Said<String>>,
    pub connect_timeout_ms: Option<Said<i64>>,
    pub read_timeout_s: Option<Said<i64>>,
    pub insert_timeout_s: Option<Said<i64>>,
    pub placement: Option<Said<String>>,
    pub compression: Option<Said<String>>,
    pub in_flight: Option<Said<i64>>,
    pub stop_timeout_s: Option<Said<i64>>,
    pub quarantine_dir: Option<Said<String>>,
}

/// How batches get to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryConfig {
    /// How its servers are reached.
    pub access: AccessConfig,
    /// Which shard gets a batch.
    pub placement: Placement,
    /// Inserts that may be under way at once.
    pub in_flight: usize,
    /// How long a stopping agent waits for the store to take what is left.
    pub stop_timeout: Duration,
    /// Where rows go that the store refuses.
    pub quarantine_dir: PathBuf,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            access: AccessConfig::default(),
            placement: Placement::default(),
            in_flight: DEFAULT_IN_FLIGHT as usize,
            stop_timeout: Duration::from_secs(DEFAULT_STOP_TIMEOUT_S),
            quarantine_dir: DEFAULT_DIR.into(),
        }
    }
}

/// Beyond this inserts only wait for each other.
const MOST_IN_FLIGHT: u64 = 16;
const DEFAULT_IN_FLIGHT: u64 = 2;
const DEFAULT_STOP_TIMEOUT_S: u64 = 30;

impl DeliverySettings {
    /// Takes the value of a key; false if there is no such key.
    pub(super) fn set(
        &mut self,
        key: &str,
        place: String,
        value: Value,
    ) -> Result<bool, ConfigError> {
        let said = match key {
            "user" => &mut self.user,
            "password_file" => &mut self.password_file,
            "ca_file" => &mut self.ca_file,
            "client_cert_file" => &mut self.client_cert_file,
            "client_key_file" => &mut self.client_key_file,
            "placement" => &mut self.placement,
            "compression" => &mut self.compression,
            "quarantine_dir" => &mut self.quarantine_dir,
            _ => {
                let said = match key {
                    "connect_timeout_ms" => &mut self.connect_timeout_ms,
                    "read_timeout_s" => &mut self.read_timeout_s,
                    "insert_timeout_s" => &mut self.insert_timeout_s,
                    "in_flight" => &mut self.in_flight,
                    "stop_timeout_s" => &mut self.stop_timeout_s,
                    _ => return Ok(false),
                };
                *said = Some(whole_number(place, value)?);
                return Ok(true);
            }
        };
        *said = Some(text(place, value)?);
        Ok(true)
    }

    /// Checks every value and fills in the defaults; files are not looked at.
    ///
    /// # Errors
    /// The first value that is not allowed.
    pub fn check(self) -> Result<DeliveryConfig, ConfigError> {
        let usual = AccessConfig::default();
        let cert = self.client_cert_file.map(|said| path(said, "client_cert_file")).transpose()?;
        let key = self.client_key_file.map(|said| path(said, "client_key_file")).transpose()?;
        let client = match (cert, key) {
            (Some((cert, _)), Some((key, _))) => Some((cert, key)),
            (None, None) => None,
            (Some((_, place)), None) => return Err(alone(place, "client_key_file")),
            (None, Some((_, place))) => return Err(alone(place, "client_cert_file")),
        };
        let ca = self.ca_file.map(|said| path(said, "ca_file")).transpose()?;
        let read = number(self.read_timeout_s, usual.read_timeout.as_secs(), 1, 3600)?;
        let connect_ms = usual.connect_timeout.as_millis() as u64;
        let insert = number(self.insert_timeout_s, usual.insert_timeout.as_secs(), 1, 3600)?;
        let stop = number(self.stop_timeout_s, DEFAULT_STOP_TIMEOUT_S, 1, 3600)?;
        Ok(DeliveryConfig {
            access: AccessConfig {
                user: self.user.map(user).transpose()?,
                password_file: self.password_file.map(password_file).transpose()?.flatten(),
                tls: TlsFiles { ca: ca.map(|(path, _)| path), client },
                connect_timeout: Duration::from_millis(number(
                    self.connect_timeout_ms,
                    connect_ms,
                    10,
                    60_000,
                )?),
                read_timeout: Duration::from_secs(read),
                insert_timeout: Duration::from_secs(insert),
                codec: self.compression.map(codec).transpose()?,
            },
            placement: self.placement.map_or(Ok(Placement::default()), placement)?,
            in_flight: number(self.in_flight, DEFAULT_IN_FLIGHT, 1, MOST_IN_FLIGHT)? as usize,
            stop_timeout: Duration::from_secs(stop),
            quarantine_dir: self.quarantine_dir.map_or(Ok(DEFAULT_DIR.into()), folder)?,
        })
    }
}

fn folder(Said { value, place }: Said<String>) -> Result<PathBuf, ConfigError> {
    let path = PathBuf::from(&value);
    if path.is_absolute() {
        return Ok(path);
    }
    let value = format!("{value:?}");
    Err(ConfigError::Value { place, value, allowed: "an absolute path".into() })
}

/// A path and where it was given.
fn path(Said { value, place }: Said<String>, what: &str) -> Result<(PathBuf, String), ConfigError> {
    if value.is_empty() {
        let allowed = format!("the path of a file in PEM; leave {what} out for none");
        return Err(ConfigError::Value { place, value: "\"\"".into(), allowed });
    }
    Ok((value.into(), place))
}

fn alone(place: String, other: &str) -> ConfigError {
    ConfigError::Value {
        place,
        value: "there alone".into(),
        allowed: format!("given together with {other}"),
    }
}

fn user(Said { value, place }: Said<String>) -> Result<String, ConfigError> {
    if value.is_empty() || value.chars().any(char::is_control) {
        let (value, allowed) = (format!("{value:?}"), "a name without control characters".into());
        return Err(ConfigError::Value { place, value, allowed });
    }
    Ok(value)
}

fn password_file(Said { value, place }: Said<String>) -> Result<Option<PasswordFile>, ConfigError> {
    PasswordFile::parse(&value).map_err(|allowed| ConfigError::Value {
        place,
        value: format!("{value:?}"),
        allowed: allowed.into(),
    })
}

fn codec(said: Said<String>) -> Result<Codec, ConfigError> {
    one_of(said, &[("none", Codec::None), ("lz4", Codec::Lz4), ("zstd", Codec::Zstd)])
}

fn placement(said: Said<String>) -> Result<Placement, ConfigError> {
    one_of(said, &[("consistent", Placement::Consistent), ("round_robin", Placement::RoundRobin)])
}

fn one_of<T: Copy>(
    Said { value, place }: Said<String>,
    choices: &[(&str, T)],
) -> Result<T, ConfigError> {
    let found = choices.iter().find(|(name, _)| *name == value);
    found.map(|(_, choice)| *choice).ok_or_else(|| ConfigError::Value {
        place,
        value: format!("{value:?}"),
        allowed: choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" or "),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    fn check(text: &str) -> Result<DeliveryConfig, String> {
        let settings = Settings::parse(text, "agent.toml").map_err(|error| error.to_string())?;
        settings.check("host", 2).map(|config| config.delivery).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_said_is_taken() {
        let text = "[delivery]\nuser = 'u'\npassword_file = 'credential:p'\nca_file = '/ca'\n\
            client_cert_file = '/c'\nclient_key_file = '/k'\nconnect_timeout_ms = 11\n\
            read_timeout_s = 2\ninsert_timeout_s = 3\nplacement = 'round_robin'\n\
            compression = 'zstd'";
        let access = AccessConfig {
            user: Some("u".into()),
            password_file: Some(PasswordFile::Credential("p".into())),
            tls: TlsFiles { ca: Some("/ca".into()), client: Some(("/c".into(), "/k".into())) },
            connect_timeout: Duration::from_millis(11),
            read_timeout: Duration::from_secs(2),
            insert_timeout: Duration::from_secs(3),
            codec: Some(Codec::Zstd),
        };
        let placement = Placement::RoundRobin;
        assert_eq!(
            check(text),
            Ok(DeliveryConfig { access, placement, ..DeliveryConfig::default() })
        );
        let text = "[delivery]\nin_flight = 7\nstop_timeout_s = 8\nquarantine_dir = '/q'";
        let (stop_timeout, quarantine_dir) = (Duration::from_secs(8), "/q".into());
        assert_eq!(
            check(text),
            Ok(DeliveryConfig {
                in_flight: 7,
                stop_timeout,
                quarantine_dir,
                ..DeliveryConfig::default()
            })
        );
        assert_eq!(check(""), Ok(DeliveryConfig::default()));
        let none = check("[delivery]\npassword_file = ''").expect("valid");
        assert_eq!(none.access.password_file, None);
    }

    #[test]
    fn bad_stores_and_ways_to_them_are_refused_by_file_line_and_key() {
        for (text, line, words) in [
            ("store = 5", 1, "store is a whole number; it must be a text, or a list of texts"),
            (
                "store = ['http://x', 5]",
                1,
                "store is a list of other values; it must be a text, or",
            ),
            ("store = []", 1, "no server is named"),
            ("store = ['http://x', 'http://y,http://x:8123']", 1, "http://x:8123 is there twice"),
            ("store = ['embedded:/a', 'embedded:/b']", 1, "an embedded store is the only one"),
            ("[delivery]\nuser = ''", 2, "delivery.user is \"\"; it must be a name"),
            ("[delivery]\nuser = 1", 2, "delivery.user is a whole number; it must be a text"),
            ("[delivery]\npassword_file = 'credential:a/b'", 2, "it must be credential:NAME"),
            ("[delivery]\nca_file = ''", 2, "the path of a file in PEM"),
            ("[delivery]\nclient_cert_file = '/c'", 2, "given together with client_key_file"),
            ("[delivery]\nclient_key_file = '/k'", 2, "given together with client_cert_file"),
            ("[delivery]\nconnect_timeout_ms = 9", 2, "connect_timeout_ms is 9; it must be 10 to"),
            ("[delivery]\nread_timeout_s = 0", 2, "read_timeout_s is 0; it must be 1 to 3600"),
            ("[delivery]\ninsert_timeout_s = 3601", 2, "insert_timeout_s is 3601; it must be 1 to"),
            ("[delivery]\nstop_timeout_s = 0", 2, "stop_timeout_s is 0; it must be 1 to 3600"),
            ("[delivery]\ninsert_timeout_s = '1'", 2, "it must be a whole number"),
            ("[delivery]\nplacement = 'random'", 2, "it must be consistent or round_robin"),
            ("[delivery]\ncompression = 'gzip'", 2, "it must be none or lz4 or zstd"),
            (
                "[delivery]\npassword = 'x'",
                2,
                "delivery.password is no key; did you mean password_file?",
            ),
        ] {
            let error = check(text).expect_err(text);
            assert!(error.contains(&format!("agent.toml, line {line}: ")), "{text}: {error}");
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
