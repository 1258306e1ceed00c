//! What happens to the agent's store when its process or its library fails, and
//! whose folder it opens. Needs libchdb (`cargo xtask setup`); no privileges.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use flow_agent::store::{EmbeddedStore, Keeper};
use flow_tests::bin_path::flow_agent;
use flow_tests::faults::{self, Outcome};
use flow_tests::raw_http::{Answer, try_send};
use flow_tests::refusal::refused;
use flow_tests::store::{DEADLINE, Store};
use rustix::process::{Pid, Signal, kill_process};

/// A library with the C API's names that does what its source says.
fn library(dir: &Path, name: &str, source: &str) -> PathBuf {
    let (from, to) = (dir.join(name).with_extension("rs"), dir.join(name).with_extension("so"));
    fs::write(&from, source).unwrap();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let built = Command::new(rustc)
        .args(["--edition=2021", "--crate-type=cdylib", "-Cpanic=abort", "-o"])
        .args([&to, &from])
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    to
}

const OLD: &str = r#"
#[no_mangle] pub extern "C" fn chdb_version() -> *const u8 { b"25.1.0\0".as_ptr() }
"#;

/// Of the right version, with all functions, each of which ends the process.
fn crashing() -> String {
    let names = [
        "chdb_connect",
        "chdb_close_conn",
        "chdb_shutdown",
        "chdb_query_with_params_n",
        "chdb_stream_insert_with_params_n",
        "chdb_stream_append",
        "chdb_stream_done",
        "chdb_stream_insert_error",
        "chdb_stream_cancel_insert",
        "chdb_destroy_insert_stream",
        "chdb_result_buffer",
        "chdb_result_length",
        "chdb_result_rows_read",
        "chdb_result_bytes_read",
        "chdb_result_storage_rows_read",
        "chdb_result_storage_bytes_read",
        "chdb_result_rows_written",
        "chdb_result_bytes_written",
        "chdb_result_error",
        "chdb_destroy_query_result",
    ];
    let mut source = String::from(
        "#[no_mangle] pub extern \"C\" fn chdb_version() -> *const u8 { b\"26.7.3\\0\".as_ptr() }\n\
         #[no_mangle] pub extern \"C\" fn chdb_set_signal_handlers_enabled(_: i32) {}\n",
    );
    for name in names {
        source.extend([
            "#[no_mangle] pub extern \"C\" fn ",
            name,
            "() { std::process::abort() }\n",
        ]);
    }
    source
}

fn store_with(library: &Path, dir: &Path) -> Output {
    Command::new(flow_agent())
        .args(["schema", "apply", "--store"])
        .arg(format!("embedded:{}", dir.display()))
        .env("FLOW_LIBCHDB", library)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn a_library_of_another_version_or_one_that_crashes_is_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let old = library(dir.path(), "old", OLD);
    refused(&store_with(&old, &data), 2, &["libchdb 25.1.0", "26.7.3", "cargo xtask setup"]);
    assert!(!data.exists());
    recorded("libchdb_other_version", 2, &store_with(&old, &data));
    let no_chdb = library(dir.path(), "other", "");
    refused(&store_with(&no_chdb, &data), 2, &["chdb_version", "FLOW_LIBCHDB"]);
    let crashing = library(dir.path(), "crashing", &crashing());
    let output = store_with(&crashing, &data);
    refused(&output, 4, &["did not start", "signal: 6"]);
    recorded("libchdb_crashes", 4, &output);
}

fn recorded(name: &str, code: i32, output: &Output) {
    let outcome = Outcome::refused(code, &String::from_utf8_lossy(&output.stderr)).unwrap();
    faults::record(name, "a library made by the test was loaded", outcome).unwrap();
}

#[test]
fn a_folder_of_a_newer_engine_is_refused_and_an_older_one_is_opened_and_noted() {
    let store = Store::start();
    let data = store.dir.path().join("data");
    let version = data.join("flow-agent.version");
    let written = fs::read_to_string(&version).unwrap();
    assert!(written.starts_with("layout 1\nengine 26.7."), "{written}");
    let store = store.kill();
    fs::write(&version, "layout 1\nengine 99.1.2\nagent 9.0.0\n").unwrap();
    let output = Command::new(flow_agent())
        .args(["store", "--listen", "127.0.0.1:0", "--dir"])
        .arg(&data)
        .output()
        .unwrap();
    refused(&output, 2, &["engine 99.1.2", "engine 26.7.3", data.to_str().unwrap()]);
    fs::write(&version, "layout 1\nengine 25.3.1\nagent 0.0.1\n").unwrap();
    let store = store.start();
    assert_eq!(store.sql("SELECT 1"), "1");
    assert_eq!(fs::read_to_string(&version).unwrap(), written);
    let log = store.stop_and_log();
    assert!(log.contains("made by engine 25.3.1"), "{log}");
}

/// An embedded store, and what to ask it with.
struct Kept {
    keeper: Keeper,
    url: String,
    key: String,
}

impl Kept {
    fn start(data: &Path) -> Self {
        let store = EmbeddedStore::start(&flow_agent(), data, DEADLINE).unwrap();
        let (url, key) = (store.url().to_owned(), store.password().to_owned());
        Self { keeper: Keeper::start(store).unwrap(), url, key }
    }

    fn try_ask(&self, sql: &str) -> Option<Answer> {
        let headers =
            [("X-ClickHouse-User", EmbeddedStore::USER), ("X-ClickHouse-Key", &*self.key)];
        try_send(&self.url, "POST", "/", &headers, sql.as_bytes()).ok()
    }

    /// Asks until it answers.
    fn ask(&self, sql: &str) -> String {
        loop {
            match self.try_ask(sql) {
                Some(answer) if answer.status == 200 => return answer.text(),
                _ => thread::yield_now(),
            }
        }
    }

    /// Kills the process that holds the folder.
    fn kill(data: &Path) {
        let pid = fs::read_to_string(data.join("flow-agent.lock")).unwrap();
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
    }
}

#[test]
fn a_killed_store_comes_back_by_itself_with_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let store = Kept::start(&data);
    let runs = store.keeper.runs();
    store.ask("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a");
    for kills in 1..=3 {
        store.ask(&format!("INSERT INTO t VALUES ({kills})"));
        Kept::kill(&data);
        while runs.restarts() < kills {
            thread::yield_now();
        }
        // At the same place, for who had the password.
        let sum: u64 = (1..=kills).sum();
        assert_eq!(store.ask("SELECT sum(a) FROM t"), format!("{sum}\n"));
        assert!(runs.is_up());
    }
    assert_eq!((runs.restarts(), runs.failed_starts()), (3, 0));
    store.keeper.stop(DEADLINE).unwrap();
}

#[test]
fn a_store_that_cannot_be_started_is_tried_again_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let store = Kept::start(&data);
    let runs = store.keeper.runs();
    store.ask("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a");
    store.ask("INSERT INTO t VALUES (7)");
    // A folder of a newer engine: the child refuses it each time.
    let version = data.join("flow-agent.version");
    let good = fs::read_to_string(&version).unwrap();
    fs::write(&version, good.replace("engine 2", "engine 9")).unwrap();
    Kept::kill(&data);
    while runs.failed_starts() < 2 {
        thread::yield_now();
    }
    assert!(!runs.is_up() && store.try_ask("SELECT 1").is_none());
    fs::write(&version, good).unwrap();
    assert_eq!(store.ask("SELECT sum(a) FROM t"), "7\n");
    while runs.restarts() < 1 {
        thread::yield_now();
    }
    store.keeper.stop(DEADLINE).unwrap();
}

#[test]
fn a_stop_does_not_wait_for_a_pause() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let store = Kept::start(&data);
    let runs = store.keeper.runs();
    let version = data.join("flow-agent.version");
    fs::write(&version, "layout 7\nengine 26.7.3\n").unwrap();
    Kept::kill(&data);
    while runs.failed_starts() < 1 {
        thread::yield_now();
    }
    // It ended badly, which is said; nothing is left running.
    let error = store.keeper.stop(DEADLINE).unwrap_err().to_string();
    assert!(error.contains("ended badly"), "{error}");
}
