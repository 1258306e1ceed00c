//! The environment: `FLOW_AGENT__SECTION__KEY`, or `FLOW_AGENT__KEY` above the sections.
//!
//! Values are written as in the file; texts need no quotes, and a list may be written with
//! commas alone.

use std::ffi::{OsStr, OsString};

use toml::{Table, Value};

use super::ConfigError;
use super::keys::{self, Key, Kind};
use super::layers::Given;

/// What the names of all variables begin with.
pub const PREFIX: &str = "FLOW_AGENT__";

/// What the variables give, and what is wrong with them.
pub fn given(variables: &[(OsString, OsString)]) -> (Vec<Given>, Vec<ConfigError>) {
    let (mut given, mut problems) = (Vec::new(), Vec::new());
    for (name, value) in variables {
        let name = name.to_string_lossy();
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        match one(&name, rest, value) {
            Ok(value) => given.push(value),
            Err(problem) => problems.push(problem),
        }
    }
    // Their order in the environment says nothing.
    given.sort_by(|a, b| a.place.cmp(&b.place));
    problems.sort_by_key(ToString::to_string);
    (given, problems)
}

fn one(name: &str, rest: &str, value: &OsStr) -> Result<Given, ConfigError> {
    let place = format!("environment variable {name}");
    let key = rest.to_lowercase().replacen("__", ".", 1);
    let Some(known) = keys::find(&key) else {
        return Err(match keys::nearest(&key) {
            Some(nearest) => {
                ConfigError::MistypedKey { place, hint: variable(nearest.trim_matches(['[', ']'])) }
            }
            None => ConfigError::UnknownKey {
                place,
                known: format!("{PREFIX}KEY and {PREFIX}SECTION__KEY, as in the file"),
            },
        });
    };
    let Some(text) = value.to_str() else {
        return Err(ConfigError::Rule { place, problem: "it is no text in UTF-8".into() });
    };
    let value = typed(known, text)
        .map_err(|problem| ConfigError::Rule { place: place.clone(), problem })?;
    Ok(Given { key, value, origin: place.clone(), place })
}

/// The variable of a key.
pub fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replacen('.', "__", 1))
}

/// What is not of the key's type is left a text, which the check of the type refuses.
fn typed(key: &Key, text: &str) -> Result<Value, String> {
    let text = text.trim();
    let quoted = text.starts_with(['"', '\'']);
    Ok(match key.kind {
        Kind::Switch | Kind::Whole { .. } => {
            toml_value(text).unwrap_or_else(|_| Value::String(text.into()))
        }
        Kind::Word(_) | Kind::Text | Kind::TextOrTexts if quoted => toml_value(text)?,
        Kind::TextOrTexts | Kind::Texts | Kind::Numbers if text.starts_with('[') => {
            toml_value(text)?
        }
        Kind::Word(_) | Kind::Text | Kind::TextOrTexts => Value::String(text.into()),
        Kind::Texts | Kind::Numbers => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            Value::Array(parts.map(|part| Value::String(part.into())).collect())
        }
    })
}

/// A value as it is written in a file.
pub fn toml_value(text: &str) -> Result<Value, String> {
    let refused = |error: &dyn std::fmt::Display| {
        format!("{text:?} is no value as in the file: {error}").replace('\n', ", ")
    };
    // A line feed would begin another key.
    if text.contains('\n') {
        return Err(refused(&"it has several lines"));
    }
    let mut table: Table =
        toml::from_str(&format!("value = {text}")).map_err(|error| refused(&error.message()))?;
    table.remove("value").ok_or_else(|| refused(&"there is none"))
}
