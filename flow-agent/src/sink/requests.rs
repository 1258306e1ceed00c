//! What delivery asks of a server: one request each, nothing is tried again here.
//!
//! Enters: a frozen batch, tokens. Leaves: whether the server did it. It holds that every
//! setting on which exactly-once depends is sent with each request, because defaults differ
//! between versions of the server and profiles of its users.

use std::time::{Duration, Instant};

use clickhouse::{Client, query::Query};

use super::clickhouse::Setting;
use super::{ClickHouse, SinkError};
use crate::frozen::FrozenBatch;
use crate::schema::Evidence;

/// Octets that are handed to the transport at once: what is compressed together.
const PIECE: usize = 1 << 20;

/// More than a batch may have: it is one block on the server, and so one part.
const ONE_BLOCK_ROWS: &str = "1048576";
const ONE_BLOCK_OCTETS: &str = "1073741824";

/// With each insert.
const SETTINGS: [(&str, &str); 17] = [
    ("async_insert", "0"),
    ("insert_deduplicate", "1"),
    ("deduplicate_blocks_in_dependent_materialized_views", "1"),
    ("max_insert_block_size", ONE_BLOCK_ROWS),
    ("min_insert_block_size_rows", ONE_BLOCK_ROWS),
    ("min_insert_block_size_bytes", ONE_BLOCK_OCTETS),
    ("min_insert_block_size_rows_for_materialized_views", "0"),
    ("min_insert_block_size_bytes_for_materialized_views", "0"),
    ("max_insert_threads", "1"),
    // A rollup is written after the table: the order that the protocol reckons with.
    ("parallel_view_processing", "0"),
    ("materialized_views_ignore_errors", "0"),
    ("insert_null_as_default", "1"),
    // Rollups are summed by their views; to sum the few equal rows again costs more than it saves.
    ("optimize_on_insert", "0"),
    // A column that the table lacks is told, never dropped.
    ("input_format_skip_unknown_fields", "0"),
    ("throw_on_max_partitions_per_insert_block", "1"),
    ANSWERS_WHOLE[0],
    ANSWERS_WHOLE[1],
];

/// With `break`, what is cut short by a limit is answered like what is whole: an insert as done, a
/// count as final.
const ANSWERS_WHOLE: [(&str, &str); 2] =
    [("timeout_overflow_mode", "throw"), ("read_overflow_mode", "throw")];

/// With each insert, if the server knows them: newer ones have them, and then they override
/// `insert_deduplicate`; others refuse a setting that they do not know.
const NEWER_SETTINGS: [(&str, &str); 2] = [
    ("deduplicate_insert", "enable"),
    // A repair is one block of sums: the same rows in any order are the same block by its token.
    ("deduplicate_insert_select", "enable_even_for_bad_queries"),
];
/// `Code: 115. Unknown setting`: another version than before.
const UNKNOWN_SETTING: u32 = 115;

impl ClickHouse {
    /// Inserts the block of a batch under a token.
    ///
    /// # Errors
    /// The server may or may not have the rows, but for [`SinkError::was_never_sent`].
    pub(super) async fn insert_block(
        &self,
        batch: &FrozenBatch,
        token: &str,
        query_id: &str,
    ) -> Result<(), SinkError> {
        let table = format!("{}.{}", self.address().database, batch.table.name());
        self.insert_block_into(&table, batch, token, query_id).await
    }

    async fn insert_block_into(
        &self,
        table: &str,
        batch: &FrozenBatch,
        token: &str,
        query_id: &str,
    ) -> Result<(), SinkError> {
        let timeout = self.insert_timeout();
        let client = self.with_settings(token, query_id).await?;
        let started = Instant::now();
        let send = async {
            let mut insert = client
                .insert_formatted_with(format!("INSERT INTO {table} FORMAT Native"))
                .with_timeouts(Some(timeout), None);
            let mut at = 0;
            while at < batch.block.len() {
                let end = batch.block.len().min(at + PIECE);
                insert.send(batch.block.slice(at..end)).await?;
                at = end;
            }
            Ok(insert)
        };
        // Each piece has a timeout of its own; this is one for all of them. The answer has what is
        // left of it and the crate's timeout: it ends the request, which goes on if only the
        // waiting for it ends, and then holds its connection and the server's query.
        let sent = match tokio::time::timeout(timeout, send).await {
            Ok(Ok(insert)) => {
                let left = timeout.saturating_sub(started.elapsed());
                insert.with_timeouts(None, Some(left)).end().await
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(clickhouse::error::Error::TimedOut),
        };
        match sent {
            Ok(()) => Ok(()),
            Err(clickhouse::error::Error::TimedOut) => {
                Err(SinkError::Silent { seconds: timeout.as_secs() })
            }
            Err(error) => Err(self.look_again(self.error(&format!("insert into {table}"), &error))),
        }
    }

    /// Ends everything that runs for a batch, and waits for its end.
    ///
    /// # Errors
    /// Something may still run.
    pub(super) async fn end_queries(&self, batch: &FrozenBatch) -> Result<(), SinkError> {
        let sql = "KILL QUERY WHERE startsWith(query_id, {id:String}) SYNC";
        let query = self.client().query_raw(sql).param("id", batch.id.to_string());
        self.run("end what runs of a batch", query, self.insert_timeout()).await
    }

    /// True if the table of flows is of this server alone.
    ///
    /// # Errors
    /// It does not say.
    pub(super) async fn is_only_one(&self) -> Result<bool, SinkError> {
        let sql = "SELECT count() FROM system.tables WHERE database = {database:String} \
                   AND name = 'flows' AND endsWith(engine, 'MergeTree') \
                   AND NOT startsWith(engine, 'Replicated') AND NOT startsWith(engine, 'Shared')";
        let query = self.client().query(sql).param("database", &self.address().database);
        self.ask("describe a table", query.fetch_one::<u64>()).await.map(|count| count == 1)
    }

    /// Has this replica fetch what the others have; at once where there are none.
    ///
    /// # Errors
    /// It may be behind.
    pub(super) async fn catch_up(&self, tables: &[Evidence]) -> Result<(), SinkError> {
        let database = &self.address().database;
        let sql = "SELECT name FROM system.tables WHERE database = {database:String} \
                   AND name IN {names:Array(String)} \
                   AND (startsWith(engine, 'Replicated') OR startsWith(engine, 'Shared'))";
        let names: Vec<_> = tables.iter().map(|table| table.table.as_str()).collect();
        let query = self.client().query(sql).param("database", database).param("names", names);
        let found: Vec<String> = self.ask("name its replicated tables", query.fetch_all()).await?;
        for table in found {
            let sql = format!("SYSTEM SYNC REPLICA {database}.{table} LIGHTWEIGHT");
            let query = self.client().query_raw(&sql);
            self.run("bring a replica up to date", query, self.insert_timeout()).await?;
        }
        Ok(())
    }

    /// How many rows of the batch each table holds.
    ///
    /// # Errors
    /// One of them cannot be asked.
    pub(super) async fn count(
        &self,
        batch: &FrozenBatch,
        tables: &[Evidence],
    ) -> Result<Vec<u64>, SinkError> {
        let mut counts = Vec::with_capacity(tables.len());
        for table in tables {
            let client = with_all(self.client(), ANSWERS_WHOLE);
            let query = of_batch(client.query(&table.count_sql), batch)
                // Of replicas the one that is asked, and all that it has.
                .with_setting("max_execution_time", self.insert_timeout().as_secs().to_string());
            let what = format!("count the rows of a batch in {}", table.table);
            counts.push(self.ask_long(&what, query.fetch_one::<u64>()).await?);
        }
        Ok(counts)
    }

    /// Makes a rollup's rows of a batch from those of the table.
    ///
    /// # Errors
    /// The rollup may or may not have them.
    pub(super) async fn repair(
        &self,
        batch: &FrozenBatch,
        rollup: &Evidence,
        token: &str,
        query_id: &str,
    ) -> Result<(), SinkError> {
        let Some(sql) = &rollup.repair_sql else { return Ok(()) };
        let timeout = self.insert_timeout();
        let client = self.with_settings(token, query_id).await?;
        let query = of_batch(client.query(sql), batch);
        let repaired = self.run(&format!("repair {}", rollup.table), query, timeout).await;
        repaired.map_err(|error| self.look_again(error))
    }

    /// Gives the table the rows without the views seeing them: they come as a part of another
    /// table.
    ///
    /// # Errors
    /// The table may or may not have them; an empty table may be left over.
    pub(super) async fn restore(
        &self,
        batch: &FrozenBatch,
        query_id: &str,
    ) -> Result<(), SinkError> {
        let database = &self.address().database;
        let table = batch.table.name();
        let aside = format!("{database}.{table}_restored_{}", batch.id.simple());
        let drop = format!("DROP TABLE IF EXISTS {aside} SYNC");
        self.change("drop a table that is no longer needed", &drop, query_id).await?;
        let sql = "SELECT engine_full FROM system.tables \
                   WHERE database = {database:String} AND name = {table:String}";
        let query = self.client().query(sql).param("database", database).param("table", table);
        let engine: String = self.ask("describe a table", query.fetch_one()).await?;
        let create = format!(
            "CREATE TABLE {aside} AS {database}.{table} ENGINE = MergeTree {}",
            without_name(&engine)
        );
        self.change("create a table to restore a batch", &create, query_id).await?;
        let insert = format!("{query_id}-aside");
        self.insert_block_into(&aside, batch, &batch.id.to_string(), &insert).await?;
        let sql = "SELECT DISTINCT partition_id FROM system.parts WHERE active \
                   AND database || '.' || table = {aside:String}";
        let query = self.client().query(sql).param("aside", &aside);
        let partitions: Vec<String> = self.ask("name a partition", query.fetch_all()).await?;
        let attach: Vec<_> = partitions
            .iter()
            .map(|partition| format!("ATTACH PARTITION ID '{partition}' FROM {aside}"))
            .collect();
        let attach = format!("ALTER TABLE {database}.{table} {}", attach.join(", "));
        let attached = self.change("restore a batch", &attach, query_id).await;
        let dropped = self.change("drop a table that is no longer needed", &drop, query_id).await;
        attached.and(dropped)
    }

    /// Deletes the batch's rows from the table.
    ///
    /// # Errors
    /// They may or may not be there.
    pub(super) async fn remove(
        &self,
        batch: &FrozenBatch,
        query_id: &str,
    ) -> Result<(), SinkError> {
        let (database, table) = (&self.address().database, batch.table.name());
        let sql = format!(
            "ALTER TABLE {database}.{table} DELETE WHERE batch_id = '{}' SETTINGS mutations_sync = 2",
            batch.id
        );
        self.change("delete what is there of a batch", &sql, query_id).await
    }

    /// For an insert.
    async fn with_settings(&self, token: &str, query_id: &str) -> Result<Client, SinkError> {
        let newer = self.newer_settings().await?;
        let client = with_all(with_all(self.client(), SETTINGS), newer);
        Ok(client
            .with_setting("insert_deduplication_token", token)
            .with_setting("query_id", query_id)
            // What nobody waits for any more ends by itself.
            .with_setting("max_execution_time", self.insert_timeout().as_secs().max(1).to_string()))
    }

    /// Those of [`NEWER_SETTINGS`] that this server knows; asked once.
    async fn newer_settings(&self) -> Result<Vec<Setting>, SinkError> {
        if let Some(known) = self.settings().clone() {
            return Ok(known);
        }
        let names: Vec<&str> = NEWER_SETTINGS.iter().map(|(name, _)| *name).collect();
        let sql = "SELECT name FROM system.settings WHERE name IN {names:Array(String)}";
        let query = self.client().query(sql).param("names", names);
        let found: Vec<String> = self.ask("name its settings", query.fetch_all()).await?;
        let is_known = |(name, _): &Setting| found.iter().any(|found| found == name);
        let known: Vec<Setting> = NEWER_SETTINGS.into_iter().filter(is_known).collect();
        *self.settings() = Some(known.clone());
        Ok(known)
    }

    /// The server may be of another version than when its settings were asked for.
    fn look_again(&self, error: SinkError) -> SinkError {
        if error.code() == Some(UNKNOWN_SETTING) {
            *self.settings() = None;
        }
        error
    }

    async fn change(&self, what: &str, sql: &str, query_id: &str) -> Result<(), SinkError> {
        let query = self.client().query_raw(sql);
        let query = query.with_setting("query_id", format!("{query_id}-{}", uuid::Uuid::now_v7()));
        self.run(what, query, self.insert_timeout()).await
    }

    async fn run(&self, what: &str, query: Query, limit: Duration) -> Result<(), SinkError> {
        match tokio::time::timeout(limit, query.execute()).await {
            Ok(done) => done.map_err(|error| self.error(what, &error)),
            Err(_) => Err(SinkError::Silent { seconds: limit.as_secs() }),
        }
    }

    async fn ask_long<T>(
        &self,
        what: &str,
        question: impl Future<Output = clickhouse::error::Result<T>>,
    ) -> Result<T, SinkError> {
        let limit = self.insert_timeout();
        match tokio::time::timeout(limit, question).await {
            Ok(answer) => answer.map_err(|error| self.error(what, &error)),
            Err(_) => Err(SinkError::Silent { seconds: limit.as_secs() }),
        }
    }
}

fn with_all(client: Client, settings: impl IntoIterator<Item = Setting>) -> Client {
    settings.into_iter().fold(client, |client, (name, value)| client.with_setting(name, value))
}

/// `MergeTree PARTITION BY a ORDER BY b` or `ReplicatedMergeTree('/path', 'replica') ...` without
/// what names the engine: only tables with the same keys, word by word, take parts of each other.
fn without_name(engine: &str) -> &str {
    let clauses = [" PARTITION BY ", " PRIMARY KEY ", " ORDER BY "];
    let begin = clauses.iter().filter_map(|clause| engine.find(clause)).min();
    begin.map_or("ORDER BY tuple()", |begin| engine[begin..].trim_start())
}

fn of_batch(query: Query, batch: &FrozenBatch) -> Query {
    query.param("id", batch.id.to_string()).param("exported_at", batch.exported_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_of_a_table_are_kept_and_its_engine_is_not() {
        let clauses = "PARTITION BY toYYYYMM(a) PRIMARY KEY b ORDER BY (b, c) SETTINGS x = 1";
        for engine in ["MergeTree", "ReplicatedMergeTree('/tables/ORDER', '{replica}')"] {
            assert_eq!(without_name(&format!("{engine} {clauses}")), clauses);
        }
        assert_eq!(without_name("MergeTree ORDER BY tuple()"), "ORDER BY tuple()");
    }
}
