//! A section of a report: a question enters, its answer with names for people leaves.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::questions::Asked;
use crate::Error;
use crate::services::service;
use crate::sink::{Question, SinkError};
use crate::target::Store;

/// Rows with names.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// Short, for programs.
    pub name: &'static str,
    /// How it is computed.
    pub how: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// As many values in each.
    pub rows: Vec<Vec<Value>>,
}

#[derive(Deserialize)]
struct Answer {
    meta: Vec<Meta>,
    data: Vec<Vec<Value>>,
}

#[derive(Deserialize)]
struct Meta {
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Section {
    /// Asks the store.
    ///
    /// # Errors
    /// It is away or refuses.
    pub fn ask(store: &Store, asked: Asked) -> Result<Self, Error> {
        let Asked { name, how, sql } = asked;
        let text = store.ask(async |client| {
            let mut text = Vec::new();
            let question = Question::new(&sql, "JSONCompact");
            client
                .stream(&question, |bytes| {
                    text.extend_from_slice(bytes);
                    true
                })
                .await?;
            Ok(text)
        })?;
        let Answer { meta, mut data } = serde_json::from_slice(&text).map_err(|error| {
            let problem = format!("the store's answer about {name} is not understood: {error}");
            SinkError::BadQuestion { problem }
        })?;
        for row in &mut data {
            for (value, meta) in row.iter_mut().zip(&meta) {
                plain(value, &meta.kind);
            }
        }
        let columns = meta.into_iter().map(|meta| meta.name).collect();
        let mut section = Self { name, how, columns, rows: data };
        section.name_services();
        Ok(section)
    }

    /// Where a column is.
    pub fn position(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|name| name == column)
    }

    /// Adds the names of services behind their ports.
    fn name_services(&mut self) {
        let (Some(protocol), Some(port)) =
            (self.position("protocol"), self.position("service_port"))
        else {
            return;
        };
        self.columns.insert(port + 1, "service".into());
        for row in &mut self.rows {
            let number = |value: &Value| value.as_u64().unwrap_or(0);
            let name = service(number(&row[protocol]) as u8, number(&row[port]) as u16);
            row.insert(port + 1, json!(name.unwrap_or_default()));
        }
    }

    /// A document.
    pub fn json(&self) -> Value {
        let object = |row: &Vec<Value>| -> Map<String, Value> {
            self.columns.iter().cloned().zip(row.iter().cloned()).collect()
        };
        let rows: Vec<_> = self.rows.iter().map(object).collect();
        json!({ "section": self.name, "how": self.how, "rows": rows })
    }
}

/// Numbers as numbers, addresses of IPv4 as such, no address as nothing.
fn plain(value: &mut Value, kind: &str) {
    let Some(text) = value.as_str() else { return };
    if kind.starts_with("UInt") {
        *value = text.parse::<u64>().map_or(Value::Null, Value::from);
    } else if kind.starts_with("Int") {
        *value = text.parse::<i64>().map_or(Value::Null, Value::from);
    } else if kind == "IPv6"
        && let Ok(address) = text.parse::<IpAddr>()
    {
        let none = address.is_unspecified();
        *value = if none { json!("") } else { json!(address.to_canonical().to_string()) };
    }
}
