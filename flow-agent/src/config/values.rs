//! Values of the file: each of the type that its key needs, with its place.

use toml::Value;

use super::ConfigError;

/// A value and where it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said<T> {
    /// As it was given.
    pub value: T,
    /// File, line and key, or the option.
    pub place: String,
}

impl<T> Said<T> {
    /// A value of the command line, if `option` was typed.
    pub fn typed(option: &str, value: Option<T>) -> Option<Self> {
        value.map(|value| Self { value, place: option.into() })
    }
}

pub(super) fn whole_number(place: String, value: Value) -> Result<Said<i64>, ConfigError> {
    match value {
        Value::Integer(value) => Ok(Said { value, place }),
        other => Err(wrong_type(place, &other, "a whole number, without quotes")),
    }
}

pub(super) fn yes_or_no(place: String, value: Value) -> Result<Said<bool>, ConfigError> {
    match value {
        Value::Boolean(value) => Ok(Said { value, place }),
        other => Err(wrong_type(place, &other, "true or false, without quotes")),
    }
}

pub(super) fn text(place: String, value: Value) -> Result<Said<String>, ConfigError> {
    match value {
        Value::String(value) => Ok(Said { value, place }),
        other => Err(wrong_type(place, &other, "a text: \"...\"")),
    }
}

/// A text is a list of one.
pub(super) fn text_or_texts(place: String, value: Value) -> Result<Said<Vec<String>>, ConfigError> {
    let needed = "a text, or a list of texts: [\"http://a,http://b\", \"http://c\"]";
    let value = match value {
        Value::String(text) => Value::Array(vec![Value::String(text)]),
        other => other,
    };
    list(place, value, needed, |value| match value {
        Value::String(text) => Some(text),
        _ => None,
    })
}

pub(super) fn texts(place: String, value: Value) -> Result<Said<Vec<String>>, ConfigError> {
    let needed = "a list of texts: [\"eth0\"]";
    list(place, value, needed, |value| match value {
        Value::String(text) => Some(text),
        _ => None,
    })
}

/// A list of numbers, or of texts that stand for some.
pub(super) fn numbers(place: String, value: Value) -> Result<Said<Vec<String>>, ConfigError> {
    let needed = "a list of numbers or texts: [443, \"8000-8100\"], [\"tcp\", 47]";
    list(place, value, needed, |value| match value {
        Value::Integer(number) => Some(number.to_string()),
        Value::String(text) => Some(text),
        _ => None,
    })
}

fn list(
    place: String,
    value: Value,
    needed: &'static str,
    item: impl Fn(Value) -> Option<String>,
) -> Result<Said<Vec<String>>, ConfigError> {
    let Value::Array(values) = value else { return Err(wrong_type(place, &value, needed)) };
    match values.into_iter().map(item).collect() {
        Some(value) => Ok(Said { value, place }),
        None => Err(ConfigError::Type { place, found: "a list of other values", needed }),
    }
}

pub(super) fn wrong_type(place: String, value: &Value, needed: &'static str) -> ConfigError {
    let found = match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number with a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    };
    ConfigError::Type { place, found, needed }
}
