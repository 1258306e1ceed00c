//! The store as a process: what it refuses to start with, and how it ends.
//! Needs libchdb (`cargo xtask setup`); no privileges.

use std::io::Read as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use flow_agent::store::EmbeddedStore;
use flow_tests::bin_path::flow_agent;
use flow_tests::store::Store;

/// How long a store may take to start.
const DEADLINE: Duration = Duration::from_mins(1);

fn store_command(dir: &Path, more: &[&str]) -> Output {
    Command::new(flow_agent())
        .args(["store", "--dir"])
        .arg(dir)
        .args(more)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn refused(output: &Output, code: i32, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert_eq!(text.trim_end().lines().count(), 1, "not one line: {text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
    assert!(output.stdout.is_empty());
}

#[test]
fn what_it_refuses_to_start_with() {
    let store = Store::start();
    let data = store.dir.path().join("data");
    let free = "--listen=127.0.0.1:0";
    refused(
        &store_command(&data, &[free]),
        1,
        &["in use by process", &store.child.id().to_string(), "--dir"],
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
    refused(&store_command(&foreign.join("letter"), &[free]), 2, &["letter", "--dir"]);
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

#[test]
fn a_store_that_does_not_start_says_why() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("letter"), "x").unwrap();
    let error = EmbeddedStore::start(&flow_agent(), dir.path(), DEADLINE).unwrap_err();
    assert!(error.to_string().contains("is not empty"), "{error}");
    let error = EmbeddedStore::start(Path::new("/nowhere"), dir.path(), DEADLINE).unwrap_err();
    assert!(error.to_string().contains("/nowhere"), "{error}");
}
