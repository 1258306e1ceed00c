//! What delivery asks of a server: one request each, nothing is tried again here.
//!
//! Enters: a frozen batch, tokens. Leaves: whether the server did it. It holds that every
//! setting on which exactly-once depends is sent with each request, because defaults differ
//! between versions of the server and profiles of its users.

use std::time::Duration;

use clickhouse::{Client, query::Query};

use super::{ClickHouse, SinkError};
use crate::frozen::FrozenBatch;
use crate::schema::Evidence;

/// Octets that are handed to the transport at once: what is compressed together.
const PIECE: usize = 1 << 20;

/// More than a batch may have: it is one block on the server, and so one part.
const ONE_BLOCK_ROWS: &str = "1048576";
const ONE_BLOCK_OCTETS: &str = "1073741824";

/// With each insert.
const SETTINGS: [(&str, &str); 15] = [
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
];

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
        let client = with_settings(self.client(), token, query_id, timeout);
        let insert = async {
            let mut insert = client
                .insert_formatted_with(format!("INSERT INTO {table} FORMAT Native"))
                .with_timeouts(Some(timeout), Some(timeout));
            let mut at = 0;
            while at < batch.block.len() {
                let end = batch.block.len().min(at + PIECE);
                insert.send(batch.block.slice(at..end)).await?;
                at = end;
            }
            insert.end().await
        };
        // Each piece has a timeout of its own; this is one for all of them.
        match tokio::time::timeout(timeout, insert).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.error(&format!("insert into {table}"), &error)),
            Err(_) => Err(SinkError::Silent { seconds: timeout.as_secs() }),
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

    /// Has this replica fetch what the others have; at once where there are none.
    ///
    /// # Errors
    /// It may be behind.
    pub(super) async fn catch_up(&self, tables: &[Evidence]) -> Result<(), SinkError> {
        let database = &self.address().database;
        let sql = "SELECT name FROM system.tables WHERE database = {database:String} \
                   AND name IN {names:Array(String)} AND startsWith(engine, 'Replicated')";
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
            let query = of_batch(self.client().query(&table.count_sql), batch)
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
        let client = with_settings(self.client(), token, query_id, timeout);
        let query = of_batch(client.query(sql), batch);
        self.run(&format!("repair {}", rollup.table), query, timeout).await
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

fn with_settings(client: Client, token: &str, query_id: &str, timeout: Duration) -> Client {
    let client =
        SETTINGS.iter().fold(client, |client, (name, value)| client.with_setting(*name, *value));
    client
        .with_setting("insert_deduplication_token", token)
        .with_setting("query_id", query_id)
        // What nobody waits for any more ends by itself.
        .with_setting("max_execution_time", timeout.as_secs().max(1).to_string())
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
