//! The sections `filter` and `sampling`, checked.

use std::collections::BTreeMap;
use std::str::FromStr;

use flow_common::filter::MAX_PREFIXES;

use super::sections::FilterSettings;
use super::values::Said;
use super::{ConfigError, number};
use crate::filter::{Prefix, Rules, Sampling, Verdict, protocol};

/// 1 in so many, at most.
const MOST_RATE: u64 = 1 << 20;

/// Rules from what was said.
pub(super) fn check(
    filter: FilterSettings,
    mode: Option<Said<String>>,
    rate: Option<Said<i64>>,
) -> Result<Rules, ConfigError> {
    let mut prefixes = BTreeMap::new();
    add_prefixes(&mut prefixes, filter.include, Verdict::Include)?;
    add_prefixes(&mut prefixes, filter.exclude, Verdict::Exclude)?;
    Ok(Rules {
        prefixes,
        include_ports: each(filter.include_ports, FromStr::from_str)?,
        exclude_ports: each(filter.exclude_ports, FromStr::from_str)?,
        include_protocols: each(filter.include_protocols, protocol)?,
        exclude_protocols: each(filter.exclude_protocols, protocol)?,
        sampling: sampling(mode, rate)?,
        own_port: None,
    })
}

fn add_prefixes(
    prefixes: &mut BTreeMap<Prefix, Verdict>,
    said: Option<Said<Vec<String>>>,
    verdict: Verdict,
) -> Result<(), ConfigError> {
    let Some(Said { value, place }) = said else { return Ok(()) };
    for text in value {
        let rule = |problem| ConfigError::Rule { place: place.clone(), problem };
        let prefix = text.parse().map_err(rule)?;
        if prefixes.insert(prefix, verdict).is_some_and(|other| other != verdict) {
            let problem = format!("{text:?} is included, too; leave it out of one list");
            return Err(rule(problem));
        }
        if prefixes.len() > MAX_PREFIXES as usize {
            return Err(rule(format!("there are more than {MAX_PREFIXES} prefixes")));
        }
    }
    Ok(())
}

fn each<T>(
    said: Option<Said<Vec<String>>>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, ConfigError> {
    let Some(Said { value, place }) = said else { return Ok(Vec::new()) };
    let parsed: Result<_, _> = value.iter().map(|text| parse(text)).collect();
    parsed.map_err(|problem| ConfigError::Rule { place, problem })
}

fn sampling(mode: Option<Said<String>>, rate: Option<Said<i64>>) -> Result<Sampling, ConfigError> {
    let needs = |place: String, what: &str| ConfigError::Rule {
        place,
        problem: format!("sampling needs a {what}, too"),
    };
    let (mode, rate) = match (mode, rate) {
        (None, None) => return Ok(Sampling::All),
        (Some(mode), None) => return Err(needs(mode.place, "rate")),
        (None, Some(rate)) => return Err(needs(rate.place, "mode")),
        (Some(mode), Some(rate)) => (mode, number(Some(rate), 1, 1, MOST_RATE)? as u32),
    };
    match mode.value.as_str() {
        "flow" | "packet" if rate == 1 => Ok(Sampling::All),
        "flow" => Ok(Sampling::Flows(rate)),
        "packet" => Ok(Sampling::Packets(rate)),
        other => Err(ConfigError::Value {
            place: mode.place,
            value: format!("{other:?}"),
            allowed: "flow or packet".into(),
        }),
    }
}
