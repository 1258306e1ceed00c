//! Values as they were given, each with its key and where it comes from: of a file, of the
//! environment, of a profile, of the command line. Later layers win, key by key.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::keys;
use super::values::wrong_type;

/// A file that is larger is none of ours.
const MOST_OCTETS: u64 = 1 << 20;

/// A value that was given.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    /// The key, with its section.
    pub key: String,
    /// Its value; not yet known to be of the right type.
    pub value: Value,
    /// For messages: file, line and key, or the variable, or the option.
    pub place: String,
    /// For people who ask where it comes from: `FILE:LINE`, a variable, an option, a profile.
    pub origin: String,
}

impl Given {
    /// A value of the command line, if `option` was typed.
    pub fn typed(option: &str, key: &str, value: Option<impl Into<Value>>) -> Option<Self> {
        let value = value?.into();
        Some(Self { key: key.into(), value, place: option.into(), origin: option.into() })
    }
}

/// Reads a file.
///
/// # Errors
/// It cannot be read, is too large or no text.
pub fn read(path: &Path) -> Result<String, ConfigError> {
    let name = path.display().to_string();
    let mut octets = Vec::new();
    let text = File::open(path)
        .and_then(|file| file.take(MOST_OCTETS + 1).read_to_end(&mut octets))
        .and_then(|_| {
            String::from_utf8(octets).map_err(|_| io::Error::other("it is no text in UTF-8"))
        })
        .map_err(|source| ConfigError::Read { path: name.clone(), source })?;
    if text.len() as u64 > MOST_OCTETS {
        return Err(ConfigError::TooLarge { path: name });
    }
    Ok(text)
}

/// What a file's text gives, and what is wrong with it; `name` is for messages.
pub fn parse(text: &str, name: &str) -> (Vec<Given>, Vec<ConfigError>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What the rest says is not known before these are mended.
        return (Vec::new(), syntax_errors(text, name, &errors));
    }
    let mut file = Reader { text, name, given: Vec::new(), problems: Vec::new() };
    for (key, value) in table.get_ref() {
        let (at, key) = (key.span().start, key.get_ref().as_ref());
        if !keys::is_section(key) {
            file.take(key, at, value.get_ref());
            continue;
        }
        match value.get_ref() {
            DeValue::Table(values) => {
                for (short, value) in values {
                    let name = format!("{key}.{}", short.get_ref());
                    file.take(&name, short.span().start, value.get_ref());
                }
            }
            other => file.no_section(key, at, other),
        }
    }
    (file.given, file.problems)
}

/// One for each line.
fn syntax_errors(text: &str, name: &str, errors: &[toml::de::Error]) -> Vec<ConfigError> {
    let mut by_line = BTreeMap::new();
    for error in errors {
        let line = error.span().map_or(1, |span| line(text, span.start));
        let problem = format!(", line {line}: {}", error.message().replace('\n', ", "));
        by_line.entry(line).or_insert(ConfigError::Parse { path: name.into(), problem });
    }
    by_line.into_values().collect()
}

/// The line of an octet, from 1.
fn line(text: &str, octet: usize) -> usize {
    let before = &text[..text.floor_char_boundary(octet)];
    before.matches('\n').count() + 1
}

struct Reader<'a> {
    text: &'a str,
    name: &'a str,
    given: Vec<Given>,
    problems: Vec<ConfigError>,
}

impl Reader<'_> {
    fn place(&self, key: &str, at: usize) -> String {
        format!("configuration {}, line {}: {key}", self.name, line(self.text, at))
    }

    fn take(&mut self, key: &str, at: usize, value: &DeValue<'_>) {
        let place = self.place(key, at);
        if keys::find(key).is_none() {
            self.problems.push(unknown(key, place));
            return;
        }
        match plain(value) {
            Some(value) => {
                let origin = format!("{}:{}", self.name, line(self.text, at));
                self.given.push(Given { key: key.into(), value, place, origin });
            }
            None => self.problems.push(ConfigError::Parse {
                path: self.name.into(),
                problem: format!(", line {}: {key}: the number is too large", line(self.text, at)),
            }),
        }
    }

    fn no_section(&mut self, key: &str, at: usize, value: &DeValue<'_>) {
        let value = plain(value).unwrap_or(Value::Integer(0));
        let needed = "a section, with its keys below it";
        self.problems.push(wrong_type(self.place(key, at), &value, needed));
    }
}

/// A key that does not exist, with the nearest one that does, or all of them.
pub fn unknown(key: &str, place: String) -> ConfigError {
    if let Some(nearest) = keys::nearest(key) {
        let hint = match nearest.split_once('.') {
            Some((section, short)) if !key.starts_with(&format!("{section}.")) => {
                format!("{short} below the line [{section}]")
            }
            _ if key.contains('.') && !nearest.contains('.') && !nearest.starts_with('[') => {
                format!("{nearest} above the first line with a [section]")
            }
            _ => nearest.rsplit('.').next().unwrap_or(&nearest).to_owned(),
        };
        return ConfigError::MistypedKey { place, hint };
    }
    let section = key.split_once('.').map_or("", |(section, _)| section);
    let mut known: Vec<String> = keys::in_section(section).map(|key| key.short().into()).collect();
    if section.is_empty() {
        known.extend(keys::SECTIONS.iter().map(|(section, _)| format!("[{section}]")));
    }
    ConfigError::UnknownKey { place, known: known.join(", ") }
}

/// A value without its places; none for a number beyond 64 bits.
fn plain(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => {
            Value::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok()?)
        }
        DeValue::Float(number) => Value::Float(number.as_str().parse().ok()?),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(date) => Value::Datetime(*date),
        DeValue::Array(values) => {
            Value::Array(values.iter().map(|value| plain(value.get_ref())).collect::<Option<_>>()?)
        }
        DeValue::Table(values) => {
            let pairs = values.iter().map(|(key, value)| {
                plain(value.get_ref()).map(|value| (key.get_ref().to_string(), value))
            });
            Value::Table(pairs.collect::<Option<_>>()?)
        }
    })
}
