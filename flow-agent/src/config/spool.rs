//! The section `spool`: as it was given, then checked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::Value;

use super::cache::one_of;
use super::values::{Said, text, whole_number};
use super::{ConfigError, number};
use crate::spool::{Fsync, Full, SpoolSettings};

/// Its keys.
pub const KEYS: &[&str] = &["dir", "max_mib", "memory_mib", "full", "fsync", "segment_mib"];

const MIB: u64 = 1 << 20;
/// 16 TiB.
const MOST_MIB: u64 = 1 << 24;
const MOST_MEMORY_MIB: u64 = 65_536;
const MOST_SEGMENT_MIB: u64 = 1024;

/// The section as it was given; everything is optional.
#[derive(Clone, Debug, Default)]
pub struct SpoolSection {
    texts: BTreeMap<&'static str, Said<String>>,
    numbers: BTreeMap<&'static str, Said<i64>>,
}

impl SpoolSection {
    /// Takes the value of a key; false if there is no such key.
    pub(super) fn set(
        &mut self,
        key: &str,
        place: String,
        value: Value,
    ) -> Result<bool, ConfigError> {
        let Some(key) = KEYS.iter().find(|known| **known == key) else { return Ok(false) };
        match *key {
            "dir" | "full" | "fsync" => drop(self.texts.insert(key, text(place, value)?)),
            _ => drop(self.numbers.insert(key, whole_number(place, value)?)),
        }
        Ok(true)
    }

    /// Checks every value and fills in the defaults.
    pub(super) fn check(mut self) -> Result<SpoolSettings, ConfigError> {
        let defaults = SpoolSettings::default();
        let mut mib = |key, default: u64, least, most| {
            number(self.numbers.remove(key), default / MIB, least, most).map(|mib| mib * MIB)
        };
        let segment_octets = mib("segment_mib", defaults.segment_octets, 1, MOST_SEGMENT_MIB)?;
        // Room is made by whole segments: the one that is written to is never the only one.
        let least = 2 * segment_octets / MIB;
        let max_octets = mib("max_mib", defaults.max_octets, least, MOST_MIB)?;
        let memory_octets = mib("memory_mib", defaults.memory_octets, 1, MOST_MEMORY_MIB)?;
        let mut said = |key| self.texts.remove(key);
        Ok(SpoolSettings {
            dir: dir(said("dir"))?,
            max_octets,
            memory_octets,
            full: one_of(said("full"), &Full::ALL.map(|full| (full.label(), full)))?,
            fsync: one_of(said("fsync"), &Fsync::ALL.map(|fsync| (fsync.label(), fsync)))?,
            segment_octets,
        })
    }
}

/// An empty text is none.
fn dir(said: Option<Said<String>>) -> Result<Option<PathBuf>, ConfigError> {
    let Some(Said { value, place }) = said else { return Ok(SpoolSettings::default().dir) };
    if value.is_empty() {
        return Ok(None);
    }
    let path = PathBuf::from(&value);
    if path.is_absolute() {
        return Ok(Some(path));
    }
    let allowed = "an absolute path, or empty to hold batches in memory only";
    Err(ConfigError::Value { place, value: format!("{value:?}"), allowed: allowed.into() })
}
