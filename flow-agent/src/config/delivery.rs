//! The section `delivery`: as it was given, and checked.

use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

use super::values::{Said, text, whole_number};
use super::{ConfigError, number};
use crate::sink::quarantine::DEFAULT_DIR;
use crate::sink::{AccessConfig, Codec, PasswordFile, Placement, TlsFiles};

/// The keys of the section.
pub const KEYS: &[&str] = &[
    "user",
    "password_file",
    "ca_file",
    "client_cert_file",
    "client_key_file",
    "connect_timeout_ms",
    "read_timeout_s",
    "insert_timeout_s",
    "placement",
    "compression",
    "in_flight",
    "quarantine_dir",
];

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
    /// Where rows go that the store refuses.
    pub quarantine_dir: PathBuf,
}

/// Beyond this inserts only wait for each other.
const MOST_IN_FLIGHT: u64 = 16;
const DEFAULT_IN_FLIGHT: u64 = 2;

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
                    _ => return Ok(false),
                };
                *said = Some(whole_number(place, value)?);
                return Ok(true);
            }
        };
        *said = Some(text(place, value)?);
        Ok(true)
    }

    pub(super) fn or(self, others: Self) -> Self {
        Self {
            user: self.user.or(others.user),
            password_file: self.password_file.or(others.password_file),
            ca_file: self.ca_file.or(others.ca_file),
            client_cert_file: self.client_cert_file.or(others.client_cert_file),
            client_key_file: self.client_key_file.or(others.client_key_file),
            connect_timeout_ms: self.connect_timeout_ms.or(others.connect_timeout_ms),
            read_timeout_s: self.read_timeout_s.or(others.read_timeout_s),
            insert_timeout_s: self.insert_timeout_s.or(others.insert_timeout_s),
            placement: self.placement.or(others.placement),
            compression: self.compression.or(others.compression),
            in_flight: self.in_flight.or(others.in_flight),
            quarantine_dir: self.quarantine_dir.or(others.quarantine_dir),
        }
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
