//! `flow-agent query`: formats, files, parameters, the standard input, Ctrl-C.
//! Needs libchdb (`cargo xtask setup`); no privileges.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use flow_tests::bin_path::flow_agent;
use flow_tests::refusal::sentence;
use flow_tests::store::Store;
use rustix::process::{Pid, Signal, kill_process};

fn start(store: &Store, more: &[&str]) -> Child {
    Command::new(flow_agent())
        .args(["query", "--store", store.url()])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn query(store: &Store, more: &[&str]) -> Output {
    start(store, more).wait_with_output().unwrap()
}

fn answer(store: &Store, more: &[&str]) -> String {
    let output = query(store, more);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{more:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_format_has_the_answer() {
    let store = Store::start();
    let sql = "SELECT toUInt8(number) AS n, concat('a,', toString(number)) AS s FROM numbers(2)";
    let of = |format: &str| answer(&store, &["--format", format, sql]);
    assert_eq!(of("csv"), "\"n\",\"s\"\n0,\"a,0\"\n1,\"a,1\"\n");
    assert_eq!(of("tsv"), "n\ts\n0\ta,0\n1\ta,1\n");
    assert_eq!(of("jsonl"), "{\"n\":0,\"s\":\"a,0\"}\n{\"n\":1,\"s\":\"a,1\"}\n");
    assert_eq!(of("Values"), "(0,'a,0'),(1,'a,1')");
    let json: serde_json::Value = serde_json::from_str(&of("json")).unwrap();
    assert_eq!(json["data"][1]["s"], "a,1");
    let table = of("table");
    assert!(table.contains('┌') && table.contains("a,1"), "{table}");
    // Without a terminal what other programs read.
    assert_eq!(answer(&store, &[sql]), "0\ta,0\n1\ta,1\n");
    let refused = query(&store, &["--format", "nonsense", sql]);
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && text.contains("nonsense"), "{text}");
    store.stop();
}

#[test]
fn a_file_is_there_whole_or_not_at_all() {
    let store = Store::start();
    let path = |name: &str| store.dir.path().join(name).display().to_string();
    let rows = "SELECT number AS n, sipHash64(number) AS h FROM numbers(300000)";
    for (name, format) in
        [("a.parquet", "Parquet"), ("a.csv", "CSVWithNames"), ("a.jsonl", "JSONEachRow")]
    {
        assert_eq!(answer(&store, &["--output", &path(name), rows]), "");
        let sum = format!("SELECT count(), sum(n), sum(h) FROM file('{}', {format})", path(name));
        let expected = format!("SELECT count(), sum(n), sum(h) FROM ({rows})");
        assert_eq!(store.sql(&sum), store.sql(&expected), "{name}");
        let mode = std::fs::metadata(path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "others read who talks to whom");
    }
    // A failure after some megabytes leaves what was there before.
    std::fs::write(path("old.csv"), "old").unwrap();
    let late =
        "SELECT number, throwIf(number = 3000000) FROM numbers(4000000) SETTINGS max_threads = 1";
    let failed = query(&store, &["--output", &path("old.csv"), late]);
    sentence(&failed, 1);
    assert_eq!(std::fs::read_to_string(path("old.csv")).unwrap(), "old");
    for (name, word) in [("a.foo", "--format"), ("missing/a.csv", "missing/a.csv")] {
        let failed = query(&store, &["--output", &path(name), rows]);
        let text = String::from_utf8_lossy(&failed.stderr);
        assert!(!failed.status.success() && text.contains(word), "{text}");
    }
    let left: Vec<_> = std::fs::read_dir(store.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".query"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    store.stop();
}

#[test]
fn parameters_arrive_as_they_were_typed_and_sql_may_come_from_the_standard_input() {
    let store = Store::start();
    for value in ["plain", "it's", "a\\b", "tab\there", "line\nbreak", "{x}=&%", ""] {
        let param = format!("x={value}");
        let got = answer(
            &store,
            &["--param", &param, "--format", "TabSeparatedRaw", "SELECT {x:String}"],
        );
        assert_eq!(got, format!("{value}\n"));
    }
    let two =
        ["--param", "a=2", "--param", "b=40", "--format", "TSV", "SELECT {a:UInt8} + {b:UInt8}"];
    assert_eq!(answer(&store, &two), "42\n");
    let bad = query(&store, &["--param", "a b=1", "SELECT 1"]);
    let text = String::from_utf8_lossy(&bad.stderr);
    assert!(bad.status.code() == Some(2) && text.contains("NAME=VALUE"), "{text}");

    let mut child = start(&store, &["--format", "TSV", "-"]);
    child.stdin.take().unwrap().write_all(b"SELECT 1\n  + 1 -- two\n").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"2\n");
    store.stop();
}

#[test]
fn ctrl_c_ends_the_query_at_the_store() {
    let store = Store::start();
    let file = store.dir.path().join("a.csv").display().to_string();
    let sql = "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(rand())";
    let child = start(&store, &["--output", &file, sql]);
    let running = "SELECT count() FROM system.processes WHERE query LIKE '%numbers(1000000000000)%' \
                   AND query NOT LIKE '%system.processes%'";
    while store.sql(running) != "1" {
        thread::yield_now();
    }
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && text.contains("stopped"), "{text}");
    while store.sql(running) != "0" {
        thread::yield_now();
    }
    assert!(!std::path::Path::new(&file).exists());
    store.stop();
}
