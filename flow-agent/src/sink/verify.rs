//! What a store's tables are like: enters a schema, leaves the differences, and whether each table
//! that an insert reaches recognises a repeated one.

use std::collections::BTreeMap;

use clickhouse::Row;
use serde::Deserialize;

use super::{ClickHouse, SinkError};
use crate::schema::{Difference, Layout, Layouts, Schema, differences};

/// The deduplication window of a table that has no replicas.
const WINDOW: &str = "non_replicated_deduplication_window";
/// The same of a replicated table.
const REPLICATED_WINDOW: &str = "replicated_deduplication_window";

#[derive(Debug, Row, Deserialize)]
struct TableRow {
    name: String,
    engine: String,
    statement: String,
    views: Vec<String>,
}

#[derive(Debug, Row, Deserialize)]
struct SettingRow {
    name: String,
    value: String,
}

impl ClickHouse {
    /// Every difference between the tables of the store and the schema.
    ///
    /// # Errors
    /// The store is away or refuses.
    pub async fn verify_schema(&self, schema: &Schema) -> Result<Vec<Difference>, SinkError> {
        Ok(differences(&self.layouts(schema).await?, &self.wanted(schema).await?))
    }

    /// Checks that the tables that agents insert into, and every target of a materialized view on
    /// them, whoever made it, recognise a repeated insert.
    ///
    /// # Errors
    /// One does not, or is no table to insert into; the store is away or refuses.
    pub async fn check_windows(&self, schema: &Schema) -> Result<(), SinkError> {
        let address = self.address().to_string();
        let tables = self.tables("").await?;
        let tables: BTreeMap<_, _> = tables.iter().map(|row| (row.name.as_str(), row)).collect();
        let defaults = self.window_defaults().await?;
        let local = schema.local();
        let mut waiting: Vec<String> =
            Schema::inserted().iter().map(|table| format!("{local}.{table}")).collect();
        let mut seen = Vec::new();
        while let Some(name) = waiting.pop() {
            let Some(row) = tables.get(name.as_str()) else { continue };
            if seen.contains(&name) {
                continue;
            }
            if row.engine == "Distributed" {
                let local = format!("{local}_local");
                return Err(SinkError::Distributed { address, table: name, local });
            }
            if let Some((problem, remedy)) = forgets(row, &defaults) {
                return Err(SinkError::NoWindow { address, table: name, problem, remedy });
            }
            for view in row.views.iter().filter_map(|view| tables.get(view.as_str())) {
                let layout = Layout::parse(&view.statement);
                waiting.extend(layout.clauses.get("target").map(|name| name.replace('`', "")));
            }
            seen.push(name);
        }
        Ok(())
    }

    /// The tables and views of the schema's databases, by `database.name`.
    pub(super) async fn layouts(&self, schema: &Schema) -> Result<Layouts, SinkError> {
        let mut layouts = Layouts::new();
        let local = schema.local();
        let mut databases = vec![local.as_str(), schema.database()];
        databases.dedup();
        for database in databases {
            for row in self.tables(database).await? {
                layouts.insert(row.name, Layout::parse(&row.statement));
            }
        }
        Ok(layouts)
    }

    /// The same as the schema has them: the store's own formatter makes them comparable.
    pub(super) async fn wanted(&self, schema: &Schema) -> Result<Layouts, SinkError> {
        let mut layouts = Layouts::new();
        for made in schema.definitions() {
            let text = made.statement.replace('\\', "\\\\").replace('\'', "\\'");
            let sql = format!("SELECT formatQuerySingleLine('{text}')");
            let lines: Vec<String> = self.question("format a statement", &sql).await?;
            let line = lines.first().map(String::as_str).unwrap_or_default();
            layouts.insert(made.name, Layout::parse(line));
        }
        Ok(layouts)
    }

    /// Tables and views of a database, or of all.
    async fn tables(&self, database: &str) -> Result<Vec<TableRow>, SinkError> {
        let only = if database.is_empty() {
            "t.database NOT IN ('system', 'information_schema', 'INFORMATION_SCHEMA')".to_owned()
        } else {
            format!("t.database = '{database}'")
        };
        let sql = format!(
            "SELECT concat(t.database, '.', t.name) AS name, t.engine AS engine, \
             if(t.create_table_query = '', '', formatQuerySingleLine(t.create_table_query)) \
             AS statement, arrayMap((d, n) -> concat(d, '.', n), t.dependencies_database, \
             t.dependencies_table) AS views FROM system.tables AS t WHERE {only}"
        );
        self.question("describe its tables", &sql).await
    }

    /// The windows of tables that say nothing themselves.
    async fn window_defaults(&self) -> Result<BTreeMap<String, String>, SinkError> {
        let sql = format!(
            "SELECT name, value FROM system.merge_tree_settings WHERE name = '{WINDOW}' UNION ALL \
             SELECT name, value FROM system.replicated_merge_tree_settings \
             WHERE name = '{REPLICATED_WINDOW}'"
        );
        let rows: Vec<SettingRow> = self.question("say its settings", &sql).await?;
        Ok(rows.into_iter().map(|row| (row.name, row.value)).collect())
    }
}

/// Why a table would store a repeated insert twice, and what to do; nothing if it would not.
fn forgets(row: &TableRow, defaults: &BTreeMap<String, String>) -> Option<(String, String)> {
    // What is thrown away is not there twice.
    if row.engine == "Null" {
        return None;
    }
    if !row.engine.ends_with("MergeTree") {
        let problem = format!("the engine {} remembers no inserts", row.engine);
        return Some((problem, "use one of the MergeTree family".into()));
    }
    let setting = if row.engine.starts_with("Replicated") { REPLICATED_WINDOW } else { WINDOW };
    let layout = Layout::parse(&row.statement);
    let value = layout.settings.get(setting).or_else(|| defaults.get(setting));
    let value = value.map_or("0", |value| value.trim_matches('\''));
    (value == "0").then(|| {
        let remedy = format!("ALTER TABLE {} MODIFY SETTING {setting} = 10000", row.name);
        (format!("its {setting} is 0"), remedy)
    })
}
