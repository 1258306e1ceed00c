//! The migrations: enter as SQL with names in braces, leave as statements ready to run.
//!
//! | name | stands for |
//! |---|---|
//! | `{database}` | the database that people query |
//! | `{local}` | the database that agents insert into; on a single server the same |
//! | `{on_cluster}` | ` ON CLUSTER '...'`, or nothing |
//! | `{replicated}` | `Replicated`, or nothing |
//! | `{settings}` | deduplication window, and what makes an insert durable |
//! | `{flows_days}`, ... | how long rows are kept |

use super::Schema;
use super::rollup;
use crate::community_id::COMMUNITY_ID_SQL;

/// One step of the schema. Versions count from [`Schema::FIRST_VERSION`] without gaps.
struct Migration {
    version: u32,
    name: &'static str,
    sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration { version: 4, name: "tables", sql: include_str!("migrations/0004_tables.sql") },
    Migration { version: 5, name: "views", sql: include_str!("migrations/0005_views.sql") },
];

/// Applied before the others: the list of what was applied.
const BOOKKEEPING: &str = "\
CREATE DATABASE IF NOT EXISTS {local}{on_cluster};

CREATE TABLE IF NOT EXISTS {local}.schema_migrations{on_cluster}
(
    version UInt32,
    name String,
    agent_version String,
    applied_at DateTime('UTC') DEFAULT now()
)
ENGINE = {replicated}ReplacingMergeTree(applied_at)
ORDER BY version
SETTINGS {settings};
";

/// Tables over those of all shards.
const DISTRIBUTED: &str = "\
CREATE DATABASE IF NOT EXISTS {database}{on_cluster};

CREATE TABLE IF NOT EXISTS {database}.{table}{on_cluster} AS {local}.{table}
ENGINE = Distributed('{cluster}', '{local}', '{table}', cityHash64(exporter));
";

/// Tables that people query.
const TABLES: [&str; 7] =
    ["flows", "flows_1m", "flows_1h", "ledger", "latency", "events", "devices"];

/// Tables of versions before [`Schema::FIRST_VERSION`]; their layout cannot become today's.
const SET_ASIDE: [&str; 3] = ["flows", "ledger", "latency"];

/// Inserts that ClickHouse remembers per table: a retry within them is recognised.
const DEDUPLICATION_WINDOW: u32 = 10_000;
/// The same for a replicated table, whose inserts come from all agents of a shard.
const REPLICATED_WINDOW: u32 = 50_000;
/// A part of fewer octets (uncompressed) is a few files. A batch is smaller than that, and a file
/// for each column and its marks costs more than its rows; merged parts are larger.
const WIDE_PART: u32 = 64 << 20;
/// Seconds that a replicated table remembers them.
const REPLICATED_WINDOW_S: u32 = 86_400;

/// A migration ready to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its number.
    pub version: u32,
    /// Its name.
    pub name: &'static str,
    /// Its statements, in order.
    pub statements: Vec<String>,
}

/// What makes one table or view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// `database.name`.
    pub name: String,
    /// Its CREATE statement.
    pub statement: String,
}

impl Schema {
    /// The oldest version that migrations go on from.
    pub const FIRST_VERSION: u32 = MIGRATIONS[0].version;

    /// The newest version.
    pub const fn version() -> u32 {
        MIGRATIONS[MIGRATIONS.len() - 1].version
    }

    /// Statements that make the list of applied migrations.
    pub fn bookkeeping(&self) -> Vec<String> {
        self.statements(BOOKKEEPING)
    }

    /// The migrations after `version`.
    pub fn after(&self, version: u32) -> Vec<Step> {
        MIGRATIONS
            .iter()
            .filter(|migration| migration.version > version)
            .map(|migration| Step {
                version: migration.version,
                name: migration.name,
                statements: self.statements(&self.with_distributed(migration)),
            })
            .collect()
    }

    /// For each table of an unreleased version: its name, and what renames it to `NAME_vVERSION`,
    /// so that nothing in it is lost.
    pub fn set_aside(&self, version: u32) -> Vec<(&'static str, String)> {
        let local = self.local();
        let rename = |table: &'static str| {
            let kept = format!("{local}.{table}_v{version}");
            (table, format!("RENAME TABLE IF EXISTS {local}.{table} TO {kept}"))
        };
        SET_ASIDE.into_iter().map(rename).collect()
    }

    /// Every table and view, in the order in which they can be made.
    pub fn definitions(&self) -> Vec<Definition> {
        let steps = self.after(0).into_iter().flat_map(|step| step.statements);
        let made = self.bookkeeping().into_iter().chain(steps).filter_map(|statement| {
            let name = name_of(&statement)?.to_owned();
            Some(Definition { name, statement })
        });
        made.collect()
    }

    /// For each table that [`Retention`](super::Retention) is about: its name, and what makes it
    /// keep rows as long as that says; none if nothing was said.
    pub fn keep(&self) -> Vec<(String, String)> {
        let local = self.local();
        if !self.keep {
            return Vec::new();
        }
        let tables = ["flows", "flows_1m", "flows_1h"].map(|table| format!("{local}.{table}"));
        let definitions = self.definitions();
        let ttl = |statement: &str| {
            let (_, rest) = statement.split_once("\nTTL ")?;
            Some(rest.split_once("\nSETTINGS")?.0.to_owned())
        };
        let alter = |definition: &Definition| {
            let name = definition.name.clone();
            let ttl = ttl(&definition.statement)?;
            let sql = format!("ALTER TABLE {name}{} MODIFY TTL {ttl}", self.on_cluster_clause());
            Some((name, sql))
        };
        definitions.iter().filter(|made| tables.contains(&made.name)).filter_map(alter).collect()
    }

    /// Tables that agents insert into.
    pub const fn inserted() -> [&'static str; 5] {
        ["flows", "ledger", "latency", "events", "devices"]
    }

    /// A statement that notes a step as applied.
    pub fn applied(&self, step: &Step, agent_version: &str) -> String {
        format!(
            "INSERT INTO {}.schema_migrations (version, name, agent_version) \
             VALUES ({}, '{}', '{agent_version}')",
            self.local(),
            step.version,
            step.name
        )
    }

    /// Everything as one script, for people who apply DDL themselves.
    pub fn script(&self) -> String {
        let steps = self.after(0).into_iter().flat_map(|step| {
            let applied = self.applied(&step, env!("CARGO_PKG_VERSION"));
            step.statements.into_iter().chain([applied])
        });
        let mut script = String::new();
        for statement in self.bookkeeping().into_iter().chain(steps) {
            script.push_str(&statement);
            script.push_str(";\n\n");
        }
        script
    }

    /// The tables over all shards come after the tables and before the views.
    fn with_distributed(&self, migration: &Migration) -> String {
        let mut sql = migration.sql.to_owned();
        if self.cluster.is_some() && migration.version == Self::FIRST_VERSION {
            for table in TABLES {
                sql.push_str(&DISTRIBUTED.replace("{table}", table));
            }
        }
        sql
    }

    fn statements(&self, sql: &str) -> Vec<String> {
        let local = self.local();
        let cluster = self.cluster.as_deref().unwrap_or_default();
        let [minute, hour] = rollup::selects(&local);
        let days = self.retention;
        // Definitions first: they have names in braces themselves.
        sql.replace("{rollup_columns}", rollup::COLUMNS)
            .replace("{flows_1m_select}", &minute)
            .replace("{flows_1h_select}", &hour)
            .replace("{database}", &self.database)
            .replace("{local}", &local)
            .replace("{on_cluster}", &self.on_cluster_clause())
            .replace("{cluster}", cluster)
            .replace("{replicated}", if self.cluster.is_some() { "Replicated" } else { "" })
            .replace("{settings}", &self.settings())
            .replace("{flows_days}", &days.flows_days.to_string())
            // From the day's beginning: a day longer than the rows of its last second.
            .replace("{marker_days}", &(days.flows_days + 2).to_string())
            .replace("{flows_1m_days}", &days.flows_1m_days.to_string())
            .replace("{flows_1h_days}", &days.flows_1h_days.to_string())
            .replace("{community_id}", COMMUNITY_ID_SQL)
            .split(";\n")
            .map(|statement| with_path(statement.trim()))
            .filter(|statement| !statement.is_empty())
            .collect()
    }

    fn on_cluster_clause(&self) -> String {
        self.cluster.as_ref().map(|name| format!(" ON CLUSTER '{name}'")).unwrap_or_default()
    }

    fn settings(&self) -> String {
        let mut settings = if self.cluster.is_some() {
            format!(
                "replicated_deduplication_window = {REPLICATED_WINDOW}, \
                 replicated_deduplication_window_seconds = {REPLICATED_WINDOW_S}"
            )
        } else {
            format!("non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}")
        };
        settings += ", min_bytes_for_wide_part = ";
        settings += &WIDE_PART.to_string();
        if self.durable {
            settings.push_str(", fsync_after_insert = 1, fsync_part_directory = 1");
        }
        settings
    }
}

/// A replicated table's place in Keeper: by name, so that it is the same whether a statement runs
/// on the cluster or a person runs it on each replica.
fn with_path(statement: &str) -> String {
    let split = || {
        let (head, rest) = statement.split_once("ENGINE = Replicated")?;
        let (kind, tail) = rest.split_once("MergeTree")?;
        Some((head, kind, tail, name_of(statement)?))
    };
    let Some((head, kind, tail, name)) = split() else { return statement.to_owned() };
    let path = format!("'/clickhouse/tables/{{shard}}/{}', '{{replica}}'", name.replace('.', "/"));
    let arguments = match tail.strip_prefix('(') {
        Some(more) => format!("({path}, {more}"),
        None => format!("({path}){tail}"),
    };
    format!("{head}ENGINE = Replicated{kind}MergeTree{arguments}")
}

/// `database.name` of what a statement makes.
fn name_of(statement: &str) -> Option<&str> {
    let is_made = statement.starts_with("CREATE ") && !statement.starts_with("CREATE DATABASE");
    let mut words = statement.split_whitespace();
    words.find(|word| is_made && word.contains('.') && !word.contains('('))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_no_gaps() {
        for (version, migration) in (Schema::FIRST_VERSION..).zip(MIGRATIONS) {
            assert_eq!(migration.version, version);
        }
    }

    #[test]
    fn every_table_recognises_a_repeated_insert() {
        let single = Schema::new("flow", true);
        let cluster = Schema::new("flow", true).on_cluster("fleet");
        for (schema, window) in
            [(single, "non_replicated_deduplication_window"), (cluster, "replicated_deduplication")]
        {
            let tables = schema.after(0).into_iter().flat_map(|step| step.statements);
            let stored: Vec<_> = tables
                .filter(|statement| statement.starts_with("CREATE TABLE"))
                .filter(|statement| !statement.contains("ENGINE = Distributed("))
                .collect();
            assert_eq!(stored.len(), TABLES.len());
            for statement in stored {
                assert!(statement.contains(window), "{statement}");
                assert!(statement.contains("fsync_after_insert"), "{statement}");
                let filled = statement.replace("{shard}", "").replace("{replica}", "");
                assert!(!filled.contains('{'), "{statement}");
            }
        }
    }
}
