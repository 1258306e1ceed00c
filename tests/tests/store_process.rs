//! The store as a process: what it refuses to start with, and how it ends.
//! Needs libchdb (`cargo xtask setup`); no privileges.

use std::fs::Permissions;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use flow_tests::bin_path::flow_agent;
use flow_tests::raw_http::post;
use flow_tests::refusal::refused;
use flow_tests::store::Store;
use rustix::process::Signal;

fn store_command(dir: &Path, more: &[&str]) -> Output {
    Command::new(flow_agent())
        .args(["store", "--dir"])
        .arg(dir)
        .args(more)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn what_it_refuses_to_start_with() {
    let store = Store::start();
    let data = store.dir.path().join("data");
    let free = "--listen=127.0.0.1:0";
    refused(
        &store_command(&data, &[free]),
        1,
        &["in use by process", &store.pid().to_string(), "--dir"],
    );

    let fresh = store.dir.path().join("fresh");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("--listen={}", taken.local_addr().unwrap());
    refused(&store_command(&fresh, &[&listen]), 1, &["another program listens", "--listen"]);
    refused(&store_command(&fresh, &["--listen=0.0.0.0:0"]), 2, &["loopback", "--allow-remote"]);
    let missing = Command::new(flow_agent())
        .args(["store", free, "--dir"])
        .arg(&fresh)
        .env("FLOW_LIBCHDB", "/nowhere/libchdb.so")
        .output()
        .unwrap();
    refused(&missing, 2, &["/nowhere/libchdb.so", "cargo xtask setup", "FLOW_LIBCHDB"]);
    let broken = store.dir.path().join("broken.so");
    std::fs::write(&broken, "no library").unwrap();
    let unusable = Command::new(flow_agent())
        .args(["store", free, "--dir"])
        .arg(&fresh)
        .env("FLOW_LIBCHDB", &broken)
        .output()
        .unwrap();
    refused(&unusable, 2, &["broken.so", "cargo xtask setup", "FLOW_LIBCHDB"]);
    assert!(!fresh.exists(), "a refused start left its folder behind");

    let foreign = store.dir.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("letter"), "x").unwrap();
    refused(&store_command(&foreign, &[free]), 2, &["not empty", "--dir"]);
    refused(&store_command(&foreign.join("letter"), &[free]), 2, &["letter is a file", "--dir"]);
    let typo = store_command(&fresh, &["--listen=foo"]);
    let text = String::from_utf8_lossy(&typo.stderr);
    assert!(text.contains("write IP:PORT, for example 127.0.0.1:8123"), "{text}");
    assert_eq!(typo.status.code(), Some(2));
    assert_eq!(std::fs::read_dir(&foreign).unwrap().count(), 1);
    store.stop();
}

#[test]
fn the_child_ends_cleanly_with_its_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(flow_agent())
        .args(["store", "--listen=127.0.0.1:0", "--stop-on-stdin-eof", "--dir"])
        .arg(dir.path().join("data"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 30];
    child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

fn agent(arguments: &[&str]) -> Output {
    Command::new(flow_agent()).args(arguments).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn every_signal_to_stop_ends_it_cleanly() {
    let mut store = Store::start();
    store.create("flows", 0);
    for (signal, rows) in [(Signal::HUP, 1), (Signal::QUIT, 2), (Signal::INT, 3)] {
        store.sql("INSERT INTO flows VALUES (1, 'a')");
        // Panics unless it exits with 0.
        store = store.restart_by(signal);
        assert_eq!(store.count("flows"), rows, "{signal:?}");
    }
    store.stop();
}

#[test]
fn an_embedded_store_that_does_not_start_gives_its_own_reason_and_exit_code() {
    let store = Store::start();
    let data = format!("embedded:{}", store.dir.path().join("data").display());
    let in_use = agent(&["schema", "apply", "--store", &data]);
    refused(&in_use, 1, &["flow-agent: the data folder", "in use by process", "embedded:DIR"]);
    let fresh = format!("embedded:{}", store.dir.path().join("fresh").display());
    let missing = Command::new(flow_agent())
        .args(["schema", "apply", "--store", &fresh])
        .env("FLOW_LIBCHDB", "/nowhere/libchdb.so")
        .output()
        .unwrap();
    refused(&missing, 2, &["flow-agent: no libchdb.so", "cargo xtask setup"]);
    // A folder that is mistyped is not a new store.
    let unknown = agent(&["query", "--store", &fresh, "SELECT 1"]);
    refused(&unknown, 2, &["no store in the folder", "schema apply"]);
    assert!(!store.dir.path().join("fresh").exists());
    let made = agent(&["schema", "apply", "--store", &fresh]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let asked = agent(&["query", "--store", &fresh, "--format", "TSV", "SHOW TABLES FROM flow"]);
    let tables = String::from_utf8_lossy(&asked.stdout).into_owned();
    for table in ["flows", "flows_1m", "flows_1h", "ledger", "latency", "events", "devices"] {
        assert!(tables.lines().any(|line| line == table), "{table}: {tables}");
    }
    store.stop();
}

#[test]
fn a_dropped_table_comes_back() {
    let store = Store::start();
    let apply = || agent(&["schema", "apply", "--store", store.url()]);
    assert!(apply().status.success());
    store.sql("DROP TABLE flow.flows SYNC");
    let applied = apply();
    let text = String::from_utf8_lossy(&applied.stderr);
    assert!(applied.status.success() && text.contains("missing"), "{text}");
    assert_eq!(store.count("flow.flows"), 0);
    let text = String::from_utf8_lossy(&apply().stderr).into_owned();
    assert!(!text.contains("missing"), "{text}");
    store.stop();
}

/// Needs root; as another user there is nothing to drop.
#[test]
fn root_becomes_the_owner_of_the_folder_or_warns() {
    const OWNER: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let log = Store::start().stop_and_log();
    assert!(log.contains("runs as root: anyone who can connect"), "{log}");

    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    for path in [dir.path(), &data] {
        std::os::unix::fs::chown(path, Some(OWNER), None).unwrap();
    }
    let log = dir.path().join("log");
    let store = flow_tests::process::Store::start(&flow_agent(), &data, &log).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", store.pid())).unwrap();
    let ids = |name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    assert_eq!(ids("Uid:"), format!("\t{OWNER}").repeat(4));
    assert_eq!(ids("Groups:").trim(), "");
    assert_eq!(post(store.url(), "/", b"SELECT number FROM numbers(2)").text(), "0\n1\n");
    let stolen = post(store.url(), "/", b"SELECT * FROM file('/etc/shadow', 'LineAsString')");
    assert!(stolen.status >= 400, "{}", stolen.text());
    let log = store.stop().unwrap();
    assert!(!log.contains("runs as root"), "{log}");
}

/// Needs root, to be somebody else.
#[test]
fn a_library_that_may_not_be_read_says_so() {
    use std::os::unix::process::CommandExt as _;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let binary = dir.path().join("flow-agent");
    std::fs::copy(flow_agent(), &binary).unwrap();
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let library = dir.path().join("libchdb.so");
    std::fs::write(&library, "").unwrap();
    std::fs::set_permissions(&library, Permissions::from_mode(0o600)).unwrap();
    let output = Command::new(&binary)
        .args(["store", "--listen=127.0.0.1:0", "--dir", "/nowhere"])
        .env("FLOW_LIBCHDB", &library)
        .current_dir("/")
        .uid(65_534)
        .output()
        .unwrap();
    refused(&output, 3, &["libchdb.so", "Permission denied", "FLOW_LIBCHDB"]);
}
