//! Backups of a real store: taken while inserts go on, brought back elsewhere,
//! compared. Needs libchdb (`cargo xtask setup`); no privileges.

use std::collections::HashSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use flow_tests::bin_path::flow_agent;
use flow_tests::raw_http::post;
use flow_tests::refusal::refused;
use flow_tests::sql;
use flow_tests::store::Store;

fn agent(arguments: &[&str]) -> Output {
    Command::new(flow_agent()).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn done(arguments: &[&str]) -> String {
    let output = agent(arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

/// The tables of the schema, and one with a rollup and a table that merges rows.
fn with_tables() -> Store {
    let store = Store::with_tables();
    for statement in [
        "CREATE TABLE flow.raw (id UInt64, host LowCardinality(String), batch UInt64) ENGINE = \
         MergeTree ORDER BY (host, id) SETTINGS non_replicated_deduplication_window = 100",
        "CREATE TABLE flow.sums (host String, n SimpleAggregateFunction(sum, UInt64), \
         q AggregateFunction(uniq, UInt64)) ENGINE = AggregatingMergeTree ORDER BY host",
        "CREATE MATERIALIZED VIEW flow.to_sums TO flow.sums AS SELECT host, \
         toUInt64(count()) AS n, uniqState(id) AS q FROM flow.raw GROUP BY host",
        "CREATE VIEW flow.of_host AS SELECT count() AS n FROM flow.raw WHERE host = {host:String}",
    ] {
        store.sql(statement);
    }
    store
}

fn insert(store: &Store, batch: u64) {
    let sql = format!(
        "INSERT INTO flow.raw SELECT number, concat('host-', toString(number % 11)), {batch} \
         FROM numbers({batch} * 1000, 1000)"
    );
    let answer = post(store.url(), "/", sql.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn a_backup_under_load_is_a_moment_of_each_table_and_comes_back_equal() {
    let store = with_tables();
    for batch in 0..20 {
        insert(&store, batch);
    }
    let (acknowledged, over) = (AtomicU64::new(20), AtomicBool::new(false));
    let archive = path(&store.dir.path().join("moment.tar.zst"));
    let (before, after) = thread::scope(|scope| {
        let inserter = scope.spawn(|| {
            let mut batch = 20;
            while !over.load(Ordering::Relaxed) {
                insert(&store, batch);
                batch += 1;
                acknowledged.store(batch, Ordering::Relaxed);
            }
        });
        while acknowledged.load(Ordering::Relaxed) < 30 {
            thread::yield_now();
        }
        let before = acknowledged.load(Ordering::Relaxed);
        let words = done(&["backup", "--store", store.url(), "--to", &archive]);
        let after = acknowledged.load(Ordering::Relaxed);
        over.store(true, Ordering::Relaxed);
        inserter.join().unwrap();
        assert!(words.contains("saved"), "{words}");
        (before, after)
    });
    assert_eq!(store.sql("SELECT name FROM system.databases WHERE name LIKE 'flow%'"), "flow");

    let elsewhere = format!("embedded:{}", path(&store.dir.path().join("elsewhere")));
    let words = done(&["restore", "--store", &elsewhere, "--from", &archive]);
    assert!(words.contains("equal to what was saved"), "{words}");
    let ask = |query: &str| sql::text(&elsewhere, query).unwrap().trim_end().to_owned();
    // Whole batches, all that were acknowledged before, none that began after.
    let of_batches =
        ask("SELECT batch, count(), sum(id) FROM flow.raw GROUP BY batch ORDER BY batch");
    let batches: Vec<Vec<u64>> = of_batches
        .lines()
        .map(|line| line.split('\t').map(|number| number.parse().unwrap()).collect())
        .collect();
    let there = batches.len() as u64;
    assert!((before..=after + 1).contains(&there), "{before} <= {there} <= {after} + 1");
    for (number, batch) in (0_u64..).zip(&batches) {
        let sum: u64 = (number * 1000..number * 1000 + 1000).sum();
        assert_eq!(batch[..], [number, 1000, sum]);
    }
    // The source has the same rows for these batches.
    let sums = |ask: &dyn Fn(&str) -> String| {
        ask(&format!("SELECT count(), sum(cityHash64(*)) FROM flow.raw WHERE batch < {there}"))
    };
    assert_eq!(sums(&ask), sums(&|query| store.sql(query)));
    // A rollup is its own moment: at most the batches of the milliseconds between.
    let rolled: u64 = ask("SELECT sum(n) FROM flow.sums").parse().unwrap();
    assert!((before * 1000..=(after + 1) * 1000).contains(&rolled), "{rolled}");
    // What is restored works on: views, the rollup, and the schema.
    done(&["schema", "apply", "--store", &elsewhere]);
    let names = |text: String| text.lines().map(str::to_owned).collect::<HashSet<_>>();
    assert_eq!(names(ask("SHOW TABLES FROM flow")), names(store.sql("SHOW TABLES FROM flow")));
    assert_eq!(
        ask("SELECT n FROM flow.of_host(host = 'host-3')"),
        ask("SELECT count() FROM flow.raw WHERE host = 'host-3'")
    );
    store.stop();
}

#[test]
fn rows_that_are_there_are_kept_unless_told_otherwise() {
    let store = with_tables();
    insert(&store, 0);
    let folder = path(&store.dir.path().join("folder"));
    done(&["backup", "--store", store.url(), "--to", &folder]);
    refused(
        &agent(&["backup", "--store", store.url(), "--to", &folder]),
        2,
        &["is there already", &folder],
    );
    insert(&store, 1);
    refused(
        &agent(&["restore", "--store", store.url(), "--from", &folder]),
        1,
        &["has rows", "raw", "--replace"],
    );
    assert_eq!(store.count("flow.raw"), 2000);
    // A backup that cannot be opened removes nothing, not even when told to.
    let nowhere = path(&store.dir.path().join("nowhere"));
    refused(
        &agent(&["restore", "--replace", "--store", store.url(), "--from", &nowhere]),
        2,
        &["no backup at", &nowhere],
    );
    assert_eq!(store.count("flow.raw"), 2000);
    let words = done(&["restore", "--replace", "--store", store.url(), "--from", &folder]);
    assert!(words.contains("restored"), "{words}");
    assert_eq!(
        (store.count("flow.raw"), &*store.sql("SELECT sum(n) FROM flow.sums")),
        (1000, "1000")
    );
    // Later inserts reach the rollup again.
    insert(&store, 2);
    assert_eq!(store.sql("SELECT sum(n) FROM flow.sums"), "2000");
    assert_eq!(store.sql("SELECT count() FROM system.tables WHERE name = 'backup_manifest'"), "0");
    store.stop();
}

#[test]
fn a_damaged_backup_is_found_out() {
    let store = with_tables();
    insert(&store, 0);
    let folder = store.dir.path().join("folder");
    done(&["backup", "--store", store.url(), "--to", &path(&folder)]);
    let mut data = Vec::new();
    let mut folders = vec![folder.join("data/flow/raw")];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "bin") {
                data.push(path);
            }
        }
    }
    assert!(!data.is_empty());
    for file in data {
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        std::fs::write(&file, bytes).unwrap();
    }
    let elsewhere = format!("embedded:{}", path(&store.dir.path().join("elsewhere")));
    let output = agent(&["restore", "--store", &elsewhere, "--from", &path(&folder)]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(!text.contains("equal to what was saved"), "{text}");
    store.stop();
}

#[test]
fn what_there_is_nothing_to_save_of() {
    let store = Store::start();
    let to = path(&store.dir.path().join("backup"));
    refused(&agent(&["backup", "--store", store.url(), "--to", &to]), 1, &["flow", "no tables"]);
    let none = format!("embedded:{}", path(&store.dir.path().join("none")));
    refused(&agent(&["backup", "--store", &none, "--to", &to]), 2, &["no store in the folder"]);
    // A snapshot that somebody else has is not touched.
    done(&["schema", "apply", "--store", store.url()]);
    store.sql("CREATE DATABASE flow_backup");
    refused(
        &agent(&["backup", "--store", store.url(), "--to", &to]),
        1,
        &["flow_backup", "DROP DATABASE"],
    );
    assert!(!Path::new(&to).exists());
    let url = store.url().to_owned();
    store.stop();
    refused(&agent(&["backup", "--store", &url, "--to", &to]), 4, &["cannot be reached"]);
}
