//! The schema on the real engine: rollups hold exactly what their table holds, also when inserts
//! are repeated, cut off and repaired; views against independent computations; `schema verify`.

use std::process::{Command, Output};

use anyhow::{Result, ensure};
use flow_agent::frozen::Table;
use flow_agent::schema::{Evidence, Retention, Schema};
use flow_tests::bin_path::flow_agent;
use flow_tests::store::Store;

const START: &str = "2026-11-20 12:00:00";

/// The generator of realistic rows that the measurements use too.
const GENERATE: &str = include_str!("../../benches/sql/generate.sql");

fn run(arguments: &[&str]) -> Output {
    Command::new(flow_agent()).args(arguments).output().unwrap()
}

fn apply(store: &Store, more: &[&str]) -> Result<()> {
    let applied = run(&[&["schema", "apply", "--store", store.url()], more].concat());
    ensure!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    Ok(())
}

fn verify(store: &Store) -> (Option<i32>, String) {
    let output = run(&["schema", "verify", "--store", store.url()]);
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// Puts rows of one batch of one host into `flows`, as one insert with a token.
fn insert(store: &Store, batch: u32, rows: u32, more: &str) {
    let (id, token) = (id(batch), format!("{}{more}", id(batch)));
    let rows_of = GENERATE
        .replace("{start:DateTime('UTC')}", &format!("toDateTime('{START}', 'UTC')"))
        .replace("{first:UInt64}", &(u64::from(batch) * 1_000_000).to_string())
        .replace("{rows:UInt64}", &rows.to_string());
    store.sql(&format!(
        "INSERT INTO flow.flows \
         (flow_start, flow_end, exported_at, exporter, interface, direction, src_ip, dst_ip, \
         src_port, dst_port, protocol, packets, bytes, reverse_packets, reverse_bytes, batch_id) \
         SETTINGS insert_deduplication_token = '{token}', async_insert = 0, \
         insert_deduplicate = 1, deduplicate_blocks_in_dependent_materialized_views = 1, \
         optimize_on_insert = 0, max_threads = 1 \
         SELECT flow_start, flow_end, toDateTime({}, 'UTC'), 'host-{}', interface, direction, \
         src_ip, dst_ip, src_port, dst_port, protocol, packets, bytes, reverse_packets, \
         reverse_bytes, '{id}' FROM ({rows_of}) SETTINGS max_block_size = 1048449",
        exported_at(batch),
        batch % 3,
    ));
}

fn id(batch: u32) -> String {
    format!("01a1f927-bfa7-7d49-8437-{batch:012x}")
}

fn exported_at(batch: u32) -> u32 {
    // 2026-11-20 16:30:00 UTC
    1_795_192_200 + batch
}

fn ask(store: &Store, sql: &str, batch: u32) -> String {
    let sql = sql
        .replace("{id:UUID}", &format!("toUUID('{}')", id(batch)))
        .replace("{exported_at:UInt32}", &exported_at(batch).to_string());
    store.sql(&sql)
}

fn evidence() -> Vec<Evidence> {
    Schema::new("flow", false).evidence(Table::Flows)
}

fn held(store: &Store, batch: u32) -> Vec<String> {
    evidence().iter().map(|evidence| ask(store, &evidence.count_sql, batch)).collect()
}

/// The same sums in the table and in each rollup.
fn sums(store: &Store) -> String {
    let of = |table: &str, rows: &str| {
        store.sql(&format!(
            "SELECT sum(packets), sum(bytes), sum(reverse_packets), sum(reverse_bytes), {rows} \
             FROM flow.{table}"
        ))
    };
    let raw = of("flows", "count(), count()");
    assert_eq!(of("flows_1m", "sum(flows), sum(batch_rows)"), raw);
    assert_eq!(of("flows_1h", "sum(flows), sum(batch_rows)"), raw);
    raw
}

#[test]
fn rollups_hold_each_batch_once_however_often_it_is_sent() -> Result<()> {
    let store = Store::start();
    apply(&store, &[])?;
    for round in 0..3 {
        for (batch, rows) in [(1, 1), (2, 700), (3, 60_000)] {
            insert(&store, batch, rows, "");
            assert_eq!(held(&store, batch), [rows, rows, rows].map(|n| n.to_string()), "{round}");
        }
        assert!(sums(&store).ends_with("60701\t60701"));
    }
    assert_eq!(held(&store, 4), ["0", "0", "0"]);
    // Marker rows are outside of any time.
    let old = store.sql("SELECT count() FROM flow.flows_1m WHERE bucket < '2026-01-01'");
    assert_eq!(old, "3");
    Ok(())
}

/// The largest batch that there can be is one part of each table: all of it or nothing.
#[test]
fn the_largest_batch_is_one_part_of_each_rollup() -> Result<()> {
    let store = Store::start();
    apply(&store, &[])?;
    for table in ["flows", "flows_1m", "flows_1h"] {
        store.sql(&format!("SYSTEM STOP MERGES flow.{table}"));
    }
    insert(&store, 1, 1_048_448, "");
    let parts = store.sql(
        "SELECT table, count() FROM system.parts WHERE database = 'flow' AND active \
         AND table LIKE 'flows%' GROUP BY table ORDER BY table",
    );
    assert_eq!(parts, "flows\t1\nflows_1h\t1\nflows_1m\t1");
    let groups: u64 = store.sql("SELECT count() FROM flow.flows_1m").parse()?;
    ensure!(groups > 262_144, "{groups} rows are too few to be several blocks");
    sums(&store);
    Ok(())
}

/// Whatever rollups missed a batch, each is repaired for itself.
#[test]
fn a_rollup_that_missed_a_batch_is_repaired_alone() -> Result<()> {
    for missed in [&["flows_1m"][..], &["flows_1h"], &["flows_1m", "flows_1h"]] {
        let store = Store::start();
        apply(&store, &[])?;
        insert(&store, 1, 5_000, "");
        // An insert that stops halfway: some targets have it and others do not.
        let without = |table: &str| missed.contains(&table);
        match (without("flows_1m"), without("flows_1h")) {
            (true, true) => {
                store.sql("DETACH TABLE flow.flows_1m_view");
                insert(&store, 2, 5_000, "");
                store.sql("ATTACH TABLE flow.flows_1m_view");
            }
            (false, true) => {
                store.sql("DETACH TABLE flow.flows_1h_view");
                insert(&store, 2, 5_000, "");
                store.sql("ATTACH TABLE flow.flows_1h_view");
            }
            (true, false) => {
                // The part of the second insert is taken away again; the views do not see that.
                store.sql("SYSTEM STOP MERGES flow.flows_1m");
                insert(&store, 2, 5_000, "");
                let part = store.sql(
                    "SELECT name FROM system.parts WHERE database = 'flow' \
                     AND table = 'flows_1m' AND active ORDER BY max_block_number DESC LIMIT 1",
                );
                store.sql(&format!("ALTER TABLE flow.flows_1m DROP PART '{part}'"));
            }
            (false, false) => {}
        }
        for evidence in evidence() {
            let count = ask(&store, &evidence.count_sql, 2);
            let expected = if without(&evidence.table) { "0" } else { "5000" };
            assert_eq!(count, expected, "{missed:?}: {}", evidence.table);
        }
        for evidence in evidence().iter().filter(|evidence| without(&evidence.table)) {
            let repair = evidence.repair_sql.as_deref().expect("rollups can be repaired");
            ask(&store, repair, 2);
            assert_eq!(ask(&store, &evidence.count_sql, 2), "5000", "{missed:?}");
        }
        assert!(sums(&store).ends_with("10000\t10000"), "{missed:?}");
        assert_eq!(held(&store, 1), ["5000"; 3]);
    }
    Ok(())
}

#[test]
fn verify_names_every_difference() -> Result<()> {
    let store = Store::start();
    apply(&store, &[])?;
    assert_eq!(verify(&store), (Some(0), String::new()));
    for change in [
        "ALTER TABLE flow.flows ADD COLUMN extra UInt8",
        "ALTER TABLE flow.flows DROP COLUMN dscp",
        "ALTER TABLE flow.flows MODIFY COLUMN packets UInt64 CODEC(NONE)",
        "ALTER TABLE flow.flows MODIFY COLUMN retransmits UInt64",
        "ALTER TABLE flow.flows MODIFY TTL exported_at + toIntervalDay(3)",
        "ALTER TABLE flow.flows DROP INDEX dst_ip_index",
        "ALTER TABLE flow.flows_1h MODIFY SETTING non_replicated_deduplication_window = 0",
        "DROP TABLE flow.ledger",
        "CREATE TABLE flow.ledger (ts DateTime('UTC')) ENGINE = MergeTree ORDER BY tuple()",
        "DROP VIEW flow.scanners",
        "CREATE OR REPLACE VIEW flow.services AS SELECT 1 AS one",
        "CREATE TABLE flow.mine (a UInt8) ENGINE = Memory",
    ] {
        store.sql(change);
    }
    let output = run(&["schema", "verify", "--store", store.url()]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout)?;
    for expected in [
        "flow.flows: column extra is UInt8, which is not in the schema",
        "flow.flows: column dscp is missing; it should be UInt8",
        "flow.flows: column packets codec is CODEC(NONE); it should be CODEC(T64, ZSTD(1))",
        "flow.flows: column retransmits is UInt64; it should be UInt32",
        "flow.flows: ttl is exported_at + toIntervalDay(3); it should be exported_at + toIntervalDay(15)",
        "flow.flows: column INDEX dst_ip_index is missing",
        "flow.flows_1h: setting non_replicated_deduplication_window is 0; it should be 10000",
        "flow.ledger: order by",
        "flow.ledger: partition by is missing; it should be toYYYYMM(ts)",
        "flow.ledger: column batch_id is missing; it should be UUID",
        "flow.scanners is missing",
        "flow.services: select is SELECT 1 AS one; it should be SELECT",
        "flow.mine is not in the schema",
    ] {
        ensure!(said.contains(expected), "{expected:?} is not in\n{said}");
    }
    let error = String::from_utf8(output.stderr)?;
    ensure!(error.contains("flow.ledger"), "a table without a window is an error: {error}");
    Ok(())
}

/// A table of somebody's own behind a view of somebody's own counts too.
#[test]
fn a_view_target_without_a_window_is_refused_by_name() -> Result<()> {
    let store = Store::start();
    apply(&store, &[])?;
    store.sql("CREATE DATABASE mine");
    store.sql("CREATE TABLE mine.totals (n UInt64) ENGINE = SummingMergeTree ORDER BY tuple()");
    store.sql(
        "CREATE MATERIALIZED VIEW mine.feed TO mine.totals AS \
         SELECT sum(packets) AS n FROM flow.flows_1m",
    );
    let capture = tempfile::tempdir()?;
    let file = capture.path().join("empty.pcap");
    let header =
        [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
    std::fs::write(&file, header)?;
    let output = format!("clickhouse:{}", store.url());
    let replay = || run(&["replay", "--output", &output, file.to_str().expect("a text")]);
    let refused = replay();
    let error = String::from_utf8(refused.stderr)?;
    assert_eq!(refused.status.code(), Some(1), "{error}");
    ensure!(error.contains("mine.totals") && error.contains("MODIFY SETTING"), "{error}");
    store.sql("ALTER TABLE mine.totals MODIFY SETTING non_replicated_deduplication_window = 100");
    let taken = replay();
    ensure!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    Ok(())
}

#[test]
fn rows_are_kept_as_long_as_was_said_and_nobody_else_changes_that() -> Result<()> {
    let store = Store::start();
    apply(&store, &[])?;
    let ttl = |table: &str| {
        store.sql(&format!(
            "SELECT extract(engine_full, 'TTL (.*) SETTINGS') FROM system.tables \
             WHERE database = 'flow' AND name = '{table}'"
        ))
    };
    let days = Retention::default();
    assert!(ttl("flows").contains(&format!("toIntervalDay({})", days.flows_days)));
    assert!(ttl("flows_1m").contains(&format!("toIntervalDay({})", days.flows_1m_days)));
    assert!(ttl("flows_1h").contains(&format!("toIntervalDay({})", days.flows_1h_days)));
    apply(&store, &["--flows-days", "3", "--flows-1m-days", "7"])?;
    for _ in 0..2 {
        assert_eq!(ttl("flows"), "exported_at + toIntervalDay(3)");
        assert!(ttl("flows_1m").starts_with("exported_day + toIntervalDay(7), "));
        assert!(ttl("flows_1m").contains("toIntervalDay(5) WHERE batch_rows > 0"));
        assert!(ttl("flows_1h").starts_with("exported_day + toIntervalDay(400), "));
        apply(&store, &[])?;
    }
    Ok(())
}
