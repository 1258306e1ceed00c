//! The JSON Schema (draft 2020-12) of the file, for editors.

use serde_json::{Map, Value, json};
use std::fmt::Write as _;

use super::environment::toml_value;
use super::keys::{self, Key, Kind};

/// The schema, made of the table of keys.
pub fn json_schema() -> Value {
    let mut properties = of_keys(keys::in_section(""));
    for (section, about) in keys::SECTIONS {
        let mut schema = json!({
            "type": "object",
            "description": about,
            "properties": of_keys(keys::in_section(section)),
            "additionalProperties": false,
        });
        if let Some(any) = keys::in_section(section).find(|key| key.short() == "*") {
            schema["properties"] = json!({});
            schema["additionalProperties"] = of_key(any);
        }
        properties.insert(section.into(), schema);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of flow-agent",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

fn of_keys(keys: impl Iterator<Item = &'static Key>) -> Map<String, Value> {
    keys.map(|key| (key.short().to_owned(), of_key(key))).collect()
}

fn of_key(key: &Key) -> Value {
    let texts = json!({ "type": "array", "items": { "type": "string" } });
    let mut schema = match key.kind {
        Kind::Switch => json!({ "type": "boolean" }),
        Kind::Whole { least, most } => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Kind::Word(words) => json!({ "type": "string", "enum": words }),
        Kind::Text => json!({ "type": "string" }),
        Kind::Texts => texts,
        Kind::TextOrTexts => json!({ "anyOf": [{ "type": "string" }, texts] }),
        Kind::Numbers => {
            let most = if key.name.ends_with("ports") { 65_535 } else { 255 };
            let number = json!({ "type": "integer", "minimum": 0, "maximum": most });
            json!({ "type": "array", "items": { "anyOf": [number, { "type": "string" }] } })
        }
    };
    let mut about = key.doc.to_owned();
    if !key.allowed.is_empty() {
        _ = write!(about, " Allowed: {}.", key.allowed);
    }
    if !key.unit.is_empty() {
        _ = write!(about, " Unit: {}.", key.unit);
    }
    if key.default.is_none() {
        _ = write!(about, " Default: {}.", key.otherwise);
    }
    about.push_str(if key.live {
        " Followed while the agent runs."
    } else {
        " Needs a restart to change."
    });
    schema["description"] = about.into();
    if let Some(default) = key.default.and_then(|text| toml_value(text).ok()) {
        schema["default"] = serde_json::to_value(default).unwrap_or_default();
    }
    if !key.example.is_empty()
        && let Ok(example) = toml_value(key.example)
    {
        schema["examples"] = json!([example]);
    }
    schema
}
