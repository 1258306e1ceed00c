//! The dashboards and rules of `deploy/`, as far as tests read them, and what Grafana makes of a
//! query before it is sent.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

/// A query of a panel or of a variable.
#[derive(Debug, Clone)]
pub struct Query {
    /// File and panel.
    pub place: String,
    /// Of ClickHouse, else of Prometheus.
    pub is_sql: bool,
    /// As it is written.
    pub text: String,
}

/// A folder of `deploy/`.
pub fn deploy(folder: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy")).join(folder)
}

/// The dashboards, with their file names.
pub fn all() -> Result<Vec<(String, Value)>> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(deploy("grafana/dashboards"))? {
        let path = file?.path();
        let name = path.file_name().context("a file has a name")?.to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path)?;
        found.push((name, serde_json::from_str(&text)?));
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(found)
}

/// Every query of a dashboard: of its panels and of its variables.
pub fn queries(name: &str, dashboard: &Value) -> Vec<Query> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for panel in list(&dashboard["panels"]) {
        for target in list(&panel["targets"]) {
            let is_sql = target["datasource"]["type"] == "grafana-clickhouse-datasource";
            let text = if is_sql { &target["rawSql"] } else { &target["expr"] };
            found.push(Query {
                place: format!("{name}: {}", panel["title"]),
                is_sql,
                text: text.as_str().unwrap_or_default().to_owned(),
            });
        }
    }
    for variable in list(&dashboard["templating"]["list"]) {
        if variable["type"] == "query" {
            let is_sql = variable["datasource"]["type"] == "grafana-clickhouse-datasource";
            let text = if is_sql { &variable["query"] } else { &variable["query"]["query"] };
            found.push(Query {
                place: format!("{name}: variable {}", variable["name"]),
                is_sql,
                text: text.as_str().unwrap_or_default().to_owned(),
            });
        }
    }
    found
}

/// What the ClickHouse plugin makes of a query: macros and variables replaced. Times are Unix
/// seconds.
pub fn sql(text: &str, (from, to): (u64, u64), exporters: &[&str], address: &str) -> String {
    let exporters: Vec<_> = exporters.iter().map(|name| format!("'{name}'")).collect();
    let text = text
        .replace("${exporter:sqlstring}", &exporters.join(","))
        .replace("${address:sqlstring}", &format!("'{address}'"))
        .replace("$__fromTime", &format!("toDateTime({from})"))
        .replace("$__toTime", &format!("toDateTime({to})"));
    let text = of_column(&text, "$__timeFilter", |column| {
        format!("{column} >= toDateTime({from}) AND {column} <= toDateTime({to})")
    });
    of_column(&text, "$__timeInterval", |column| {
        format!("toStartOfInterval(toDateTime({column}), INTERVAL 60 second)")
    })
}

fn of_column(text: &str, name: &str, replace: impl Fn(&str) -> String) -> String {
    let open = format!("{name}(");
    let mut parts = text.split(&open);
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (column, rest) = part.split_once(')').expect("a macro is closed");
        whole.extend([&replace(column), rest]);
    }
    whole
}

/// What Grafana makes of a query to Prometheus, for all agents.
pub fn promql(text: &str) -> String {
    let text = text.replace("$instance", ".+").replace("$__rate_interval", "1m");
    // A variable asks for the values of a label.
    match text.strip_prefix("label_values(") {
        Some(rest) => rest.rsplit_once(',').map_or(text.clone(), |(series, _)| series.into()),
        None => text,
    }
}

/// The metrics of the agent that an expression names: those of rules have a colon.
pub fn metrics(expression: &str) -> BTreeSet<String> {
    expression
        .split(|letter: char| !(letter.is_ascii_alphanumeric() || "_:".contains(letter)))
        .filter(|word| word.contains("flow_agent_"))
        .map(str::to_owned)
        .collect()
}

/// The metrics that `docs/metrics.md` has a row for, with what a histogram adds.
pub fn documented() -> Result<BTreeSet<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let mut found = BTreeSet::new();
    for line in std::fs::read_to_string(path)?.lines() {
        let Some(rest) = line.strip_prefix("| `") else { continue };
        let (name, rest) = rest.split_once('`').context("a name ends")?;
        if rest.starts_with(" | histogram") {
            found.extend(["_bucket", "_sum", "_count"].map(|end| format!("{name}{end}")));
        } else {
            found.insert(name.to_owned());
        }
    }
    Ok(found)
}
