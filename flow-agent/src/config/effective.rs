//! The configuration in force: every key with its value and where that comes from.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::json;
use toml::Value;

use super::environment::toml_value;
use super::keys::{self, Key};
use super::layers::Given;

/// A key in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// With its section.
    pub name: String,
    /// What is known of the key.
    pub key: &'static Key,
    /// Its value; none if it has none. Passwords are not in it.
    pub value: Option<Value>,
    /// `default`, `profile NAME`, `FILE:LINE`, a variable or an option.
    pub origin: String,
}

/// The configuration in force.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effective {
    /// In the order of the table of keys.
    pub entries: Vec<Entry>,
    /// Keys that the file has other values for, which count after a restart.
    pub needs_restart: Vec<String>,
}

impl Effective {
    /// Of what was given, on a host of this name with so many CPUs.
    pub fn new(given: &BTreeMap<String, Given>, host_name: &str, cpus: usize) -> Self {
        let mut entries = Vec::new();
        for key in keys::all() {
            if key.short() == "*" {
                let prefix = format!("{}.", key.section());
                let of_section = given.iter().filter(|(name, _)| name.starts_with(&prefix));
                entries.extend(of_section.map(|(_, given)| said(key, given)));
                continue;
            }
            entries.push(match given.get(key.name) {
                Some(given) => said(key, given),
                None => yielding(key, given).unwrap_or_else(|| default(key, host_name, cpus)),
            });
        }
        Self { entries, needs_restart: Vec::new() }
    }

    /// What is in force once `new` was read while the agent runs: of the keys that are followed
    /// the new values, of the others the old ones.
    #[must_use]
    pub fn followed_by(&self, new: &Self) -> Self {
        let old: BTreeMap<_, _> = self.entries.iter().map(|entry| (&*entry.name, entry)).collect();
        let news: BTreeMap<_, _> = new.entries.iter().map(|entry| (&*entry.name, entry)).collect();
        let mut entries = Vec::new();
        let mut needs_restart = Vec::new();
        for entry in &new.entries {
            let before = old.get(&*entry.name).copied();
            let same = before.is_some_and(|before| before.value == entry.value);
            if entry.key.live || same {
                entries.push(entry.clone());
                continue;
            }
            needs_restart.push(entry.name.clone());
            entries.extend(before.cloned());
        }
        for gone in self.entries.iter().filter(|entry| !news.contains_key(&*entry.name)) {
            needs_restart.push(gone.name.clone());
            entries.push(gone.clone());
        }
        Self { entries, needs_restart }
    }

    /// For `/api/v1/config`: by key, value, origin and whether it is followed while running.
    pub fn json(&self) -> serde_json::Value {
        let keys: serde_json::Map<_, _> = self
            .entries
            .iter()
            .map(|entry| {
                let about = json!({
                    "value": entry.value,
                    "origin": entry.origin,
                    "changeable": entry.key.live,
                    "unit": entry.key.unit,
                });
                (entry.name.clone(), about)
            })
            .collect();
        json!({ "keys": keys, "needs_restart": self.needs_restart })
    }

    /// As a file that gives just this, with the origins behind.
    pub fn toml(&self) -> String {
        let width = self.entries.iter().map(|entry| assignment(entry).len());
        let width = width.filter(|width| *width < 48).max().unwrap_or(0);
        let mut text = String::from(
            "# The configuration in force, and where each value comes from; passwords are left out.\n",
        );
        let mut section = "";
        for entry in &self.entries {
            if entry.key.section() != section {
                section = entry.key.section();
                _ = writeln!(text, "\n[{section}]");
            }
            let (line, origin) = (assignment(entry), &entry.origin);
            _ = writeln!(text, "{line:width$}  # {origin}");
        }
        text
    }
}

fn assignment(entry: &Entry) -> String {
    let name = entry.name.split_once('.').map_or(&*entry.name, |(_, short)| short);
    match &entry.value {
        Some(value) => {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            let name = if !name.is_empty() && name.chars().all(plain) {
                name.to_owned()
            } else {
                Value::String(name.into()).to_string()
            };
            format!("{name} = {value}")
        }
        None => format!("#{name} ="),
    }
}

fn said(key: &'static Key, given: &Given) -> Entry {
    let value =
        if key.name == "store" { without_passwords(&given.value) } else { given.value.clone() };
    Entry { name: given.key.clone(), key, value: Some(value), origin: given.origin.clone() }
}

/// A default that gives way to what was said of another key; none for those that do not.
fn yielding(key: &'static Key, given: &BTreeMap<String, Given>) -> Option<Entry> {
    /// The value of the usual one and what was said of the other.
    type Bound = fn(i64, i64) -> i64;
    let (others, bound): (&[&str], Bound) = match key.name {
        "batch.min_rows" => (&["batch.max_rows"], i64::min),
        "batch.max_rows" => (&["batch.min_rows"], i64::max),
        "memory.floor_flows" => (&["cache.max_flows", "max_flows"], i64::min),
        "memory.regrow_below_percent" => {
            (&["memory.shrink_above_percent"], |usual, shrink| usual.min(shrink - 1))
        }
        _ => return None,
    };
    let other = others.iter().find_map(|other| given.get(*other))?;
    let usual = toml_value(key.default?).ok()?.as_integer()?;
    let value = bound(usual, other.value.as_integer()?);
    (value != usual).then(|| Entry {
        name: key.name.into(),
        key,
        value: Some(Value::Integer(value)),
        origin: format!("default, because of {}", other.key),
    })
}

fn default(key: &'static Key, host_name: &str, cpus: usize) -> Entry {
    let (value, origin) = match (key.default, key.name) {
        (Some(text), _) => (toml_value(text).ok(), "default".to_owned()),
        (None, "exporter") => {
            (Some(Value::String(host_name.into())), format!("default: {}", key.otherwise))
        }
        (None, "shards") => {
            let shards = Value::Integer(cpus.clamp(1, 64) as i64);
            (Some(shards), format!("default: {}", key.otherwise))
        }
        (None, _) => (None, format!("default: {}", key.otherwise)),
    };
    Entry { name: key.name.into(), key, value, origin }
}

/// URLs as they are, but for the password.
fn without_passwords(value: &Value) -> Value {
    match value {
        Value::String(text) => {
            let replicas: Vec<_> = text.split(',').map(without_password).collect();
            Value::String(replicas.join(","))
        }
        Value::Array(values) => Value::Array(values.iter().map(without_passwords).collect()),
        other => other.clone(),
    }
}

/// Everything between the user and the last `@` of the part that names the server.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.into() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // A password may have a slash that should have been escaped: rather hide too much.
    let Some(at) = rest[..end].rfind('@').or_else(|| rest.rfind('@')) else { return url.into() };
    match rest[..at].split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:***@{}", &rest[at + 1..]),
        None => url.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_never_shown() {
        for (url, shown) in [
            ("http://a", "http://a"),
            ("embedded:/x", "embedded:/x"),
            ("http://u@a/db", "http://u@a/db"),
            ("https://u:secret@a:8443/db", "https://u:***@a:8443/db"),
            ("http://u:sec@ret@a", "http://u:***@a"),
            ("http://u:sec/ret@a/db", "http://u:***@a/db"),
        ] {
            assert_eq!(without_password(url), shown);
        }
        let list = toml_value("['http://u:secret@a,http://u:secret@b']").expect("TOML");
        assert!(!without_passwords(&list).to_string().contains("secret"));
    }
}
