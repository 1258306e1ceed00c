//! The embedded store as its clients meet it: the official `clickhouse` crate
//! and `clickhouse-connect`, both unmodified, and what survives a stop.
//! Needs libchdb and a Python (`cargo xtask setup`); no privileges.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clickhouse::Compression;
use flow_tests::python::python;
use flow_tests::store::{Flow, Store, flows, insert};

#[tokio::test(flavor = "multi_thread")]
async fn the_official_crate_creates_inserts_selects_and_gets_errors() {
    let store = Store::start();
    for compression in [Compression::Lz4, Compression::None] {
        let client = store.client().with_compression(compression);
        client.query("CREATE DATABASE IF NOT EXISTS flow").execute().await.unwrap();
        client
            .query("CREATE OR REPLACE TABLE flow.flows (id UInt64, host String) ENGINE = MergeTree ORDER BY id")
            .execute()
            .await
            .unwrap();
        let client = client.with_database("flow");
        let rows = flows(0..10_000);
        insert(&client, "flows", &rows).await.unwrap();
        let all = client.query("SELECT ?fields FROM flows ORDER BY id").fetch_all::<Flow>().await;
        assert_eq!(all.unwrap(), rows, "{compression:?}");
        let bound = client
            .query("SELECT count() FROM flows WHERE host = {host:String} AND id < ?")
            .bind(5_000)
            .param("host", "host-7")
            .fetch_one::<u64>()
            .await
            .unwrap();
        assert_eq!(
            bound,
            rows.iter().filter(|r| r.host == "host-7" && r.id < 5_000).count() as u64
        );
        let error = client.query("SELECT * FROM missing").execute().await.unwrap_err().to_string();
        assert!(error.contains("Code: 60.") && error.contains("(UNKNOWN_TABLE)"), "{error}");
    }
    store.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_rows_stream_to_the_crate() {
    let store = Store::start();
    for compression in [Compression::Lz4, Compression::None] {
        let client = store.client().with_compression(compression);
        let mut cursor = client
            .query("SELECT number AS id, toString(number) AS host FROM numbers(1000000)")
            .fetch::<Flow>()
            .unwrap();
        let mut next = 0;
        while let Some(row) = cursor.next().await.unwrap() {
            assert_eq!(row, Flow { id: next, host: next.to_string() });
            next += 1;
        }
        assert_eq!(next, 1_000_000);
    }
    store.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_the_middle_of_a_result_is_an_error_to_the_crate() {
    let store = Store::start();
    for compression in [Compression::Lz4, Compression::None] {
        let client = store.client().with_compression(compression);
        let mut cursor = client
            .query("SELECT number + throwIf(number = 3000000) FROM numbers(4000000) SETTINGS max_threads = 1")
            .fetch::<u64>()
            .unwrap();
        let mut rows = 0;
        let error = loop {
            match cursor.next().await {
                Ok(Some(_)) => rows += 1,
                Ok(None) => {
                    panic!("{compression:?}: a short result of {rows} rows passed for a whole one")
                }
                Err(error) => break error.to_string(),
            }
        };
        assert!(rows > 0 && error.contains("Code: 395."), "{compression:?}: {rows} rows, {error}");
    }
    store.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_with_the_same_token_stores_nothing_twice() {
    let store = Store::start();
    store.create("flows", 100);
    let client = store
        .client()
        .with_setting("insert_deduplicate", "1")
        .with_setting("insert_deduplication_token", "batch-1");
    let rows = flows(0..50_000);
    for _ in 0..3 {
        insert(&client, "flows", &rows).await.unwrap();
    }
    assert_eq!(store.count("flows"), 50_000);
    // The window survives a restart, and the setting has not leaked.
    let store = store.restart();
    let client = store.client();
    insert(&client.clone().with_setting("insert_deduplication_token", "batch-1"), "flows", &rows)
        .await
        .unwrap();
    assert_eq!(store.count("flows"), 50_000);
    insert(&client, "flows", &flows(0..10)).await.unwrap();
    assert_eq!(store.count("flows"), 50_010);
    store.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn more_clients_than_places_all_get_their_turn() {
    let store = Store::start();
    store.create("flows", 0);
    let tasks: Vec<_> = (0..50_u64)
        .map(|n| {
            let client = store.client();
            tokio::spawn(async move {
                insert(&client, "flows", &flows(n * 100..(n + 1) * 100)).await?;
                client.query("SELECT sleep(0.2)").execute().await?;
                client.query("SELECT max(id) FROM flows").fetch_one::<u64>().await
            })
        })
        .collect();
    for (n, task) in tasks.into_iter().enumerate() {
        assert!(task.await.unwrap().unwrap() >= n as u64 * 100 + 99);
    }
    assert_eq!(store.count("flows"), 5_000);
    store.stop();
}

/// Inserts until the store ends in the way of `end`; every acknowledged batch
/// must be there, and none in part.
async fn interrupt(end: fn(Store) -> Store) {
    const BATCH: u64 = 1_000;
    const WRITERS: u64 = 4;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let store = Store::start();
    store.create("flows", 0);
    let tasks: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (client, acknowledged) = (store.client(), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                while insert(&client, "flows", &flows(0..BATCH)).await.is_ok() {
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    while acknowledged.load(Ordering::SeqCst) < 20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let store = end(store);
    for task in tasks {
        task.await.unwrap();
    }
    let (rows, acknowledged) = (store.count("flows"), acknowledged.load(Ordering::SeqCst));
    // An answer may be lost on the way: then its batch is there whole.
    assert_eq!(rows % BATCH, 0, "part of a batch is stored");
    let batches = rows / BATCH;
    assert!(
        (acknowledged..=acknowledged + WRITERS).contains(&batches),
        "{acknowledged} acknowledged, {batches} stored"
    );
    store.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_while_inserting_every_acknowledged_batch_is_there() {
    interrupt(Store::restart).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_inserting_every_acknowledged_batch_is_there() {
    interrupt(Store::crash).await;
}

#[test]
fn clickhouse_connect_works_unmodified() {
    let store = Store::start();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clickhouse_connect.py");
    let output = Command::new(python()).args(["-I", script, store.url()]).output().unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    store.stop();
}
