//! The schema: versioned migrations, forward only, safe to apply again.

use crate::community_id::COMMUNITY_ID_SQL;

/// One step of the schema. Versions count from 1 without gaps.
struct Migration {
    version: u32,
    name: &'static str,
    sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "flows", sql: include_str!("migrations/0001_flows.sql") },
    Migration {
        version: 2,
        name: "enrichment",
        sql: include_str!("migrations/0002_enrichment.sql"),
    },
    Migration { version: 3, name: "events", sql: include_str!("migrations/0003_events.sql") },
];

/// Applied before the others: the list of what was applied.
const BOOKKEEPING: &str = "\
CREATE DATABASE IF NOT EXISTS {database};

CREATE TABLE IF NOT EXISTS {database}.schema_migrations
(
    version UInt32,
    name String,
    agent_version String,
    applied_at DateTime('UTC') DEFAULT now()
)
ENGINE = ReplacingMergeTree(applied_at)
ORDER BY version
SETTINGS {settings};
";

/// Inserts that ClickHouse remembers per table: a retry within them is recognised.
const DEDUPLICATION_WINDOW: u32 = 10_000;

/// The schema for one database.
#[derive(Clone, Debug)]
pub struct Schema {
    database: String,
    durable: bool,
}

/// A migration ready to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its number, from 1.
    pub version: u32,
    /// Its name.
    pub name: &'static str,
    /// Its statements, in order.
    pub statements: Vec<String>,
}

impl Schema {
    /// The schema in `database`. A `durable` store syncs each insert to disk
    /// before it answers: the embedded one, which has no replica.
    pub fn new(database: &str, durable: bool) -> Self {
        Self { database: database.into(), durable }
    }

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
                statements: self.statements(migration.sql),
            })
            .collect()
    }

    /// Everything as one script, for people who apply DDL themselves.
    pub fn script(&self) -> String {
        let steps = self.after(0).into_iter().flat_map(|step| step.statements);
        let mut script = String::new();
        for statement in self.bookkeeping().into_iter().chain(steps) {
            script.push_str(&statement);
            script.push_str(";\n\n");
        }
        script
    }

    fn statements(&self, sql: &str) -> Vec<String> {
        let mut settings = format!("non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}");
        if self.durable {
            settings.push_str(", fsync_after_insert = 1, fsync_part_directory = 1");
        }
        sql.replace("{database}", &self.database)
            .replace("{settings}", &settings)
            .replace("{community_id}", COMMUNITY_ID_SQL)
            .split(";\n")
            .map(|statement| statement.trim().to_string())
            .filter(|statement| !statement.is_empty())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_from_one_without_gaps() {
        for (position, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.version as usize, position + 1);
        }
    }

    #[test]
    fn every_table_recognises_a_repeated_insert() {
        let schema = Schema::new("flow", true);
        let tables = schema.after(0).into_iter().flat_map(|step| step.statements);
        let mut count = 0;
        for statement in tables.filter(|statement| statement.starts_with("CREATE TABLE")) {
            assert!(statement.contains("non_replicated_deduplication_window"), "{statement}");
            assert!(statement.contains("fsync_after_insert"), "{statement}");
            assert!(!statement.contains('{'), "{statement}");
            count += 1;
        }
        assert_eq!(count, 5);
    }
}
