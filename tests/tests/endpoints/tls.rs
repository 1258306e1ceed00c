//! TLS: right, wrong, expired, downgraded.

use std::io::Write;

use flow_tests::made::{capture, folder_with};
use flow_tests::store::Store;
use tempfile::TempDir;

use super::servers::{Authority, Door, answering};
use super::{ask, assert_answered, assert_refused};

/// A certificate of these years has not ended.
const FAR: i32 = 2900;

#[test]
fn a_server_is_believed_only_with_the_right_certificate() {
    let folder = TempDir::new().expect("a folder");
    let store = Store::start();
    let (authority, other) = (Authority::new("ours"), Authority::new("other"));
    let ca = authority.file(folder.path(), "ca.pem");
    let wrong_ca = other.file(folder.path(), "other.pem");
    let good = authority.identity("localhost", FAR);
    let door = Door::open(store.url(), Some(good.acceptor(None)));
    let url = format!("https://localhost:{}", door.port());
    assert_answered(&ask(&["--store", &url, "--ca-file", &ca]));

    assert_refused(&ask(&["--store", &url, "--ca-file", &wrong_ca]), 4, "UnknownIssuer");
    // The system does not know our authority.
    assert_refused(&ask(&["--store", &url]), 4, "UnknownIssuer");
    let by_number = format!("https://127.0.0.1:{}", door.port());
    let output = ask(&["--store", &by_number, "--ca-file", &ca]);
    assert_refused(&output, 4, "not valid for name");
}

#[test]
fn an_expired_certificate_is_refused() {
    let folder = TempDir::new().expect("a folder");
    let store = Store::start();
    let authority = Authority::new("ours");
    let ca = authority.file(folder.path(), "ca.pem");
    let expired = authority.identity("localhost", 2001);
    let door = Door::open(store.url(), Some(expired.acceptor(None)));
    let url = format!("https://localhost:{}", door.port());
    assert_refused(&ask(&["--store", &url, "--ca-file", &ca]), 4, "expired");
}

#[test]
fn a_client_certificate_is_shown_to_a_server_that_wants_one() {
    let folder = TempDir::new().expect("a folder");
    let store = Store::start();
    let (authority, clients) = (Authority::new("ours"), Authority::new("other"));
    let ca = authority.file(folder.path(), "ca.pem");
    let server = authority.identity("localhost", FAR);
    let door = Door::open(store.url(), Some(server.acceptor(Some(&clients))));
    let url = format!("https://localhost:{}", door.port());
    let with = |client: &super::servers::Identity| {
        let (cert, key) = client.files(folder.path());
        let options = ["--store", &url, "--ca-file", &ca, "--client-cert", &cert];
        ask(&[&options[..], &["--client-key", &key]].concat())
    };
    assert_answered(&with(&clients.identity("agent", FAR)));
    assert_refused(&with(&authority.identity("agent", FAR)), 4, "over TLS");
    assert_refused(&with(&clients.identity("agent", 2001)), 4, "over TLS");
    assert_refused(&ask(&["--store", &url, "--ca-file", &ca]), 4, "over TLS");
}

#[test]
fn tls_and_plain_ports_are_told_apart() {
    let folder = TempDir::new().expect("a folder");
    let store = Store::start();
    let authority = Authority::new("ours");
    let ca = authority.file(folder.path(), "ca.pem");
    let server = authority.identity("localhost", FAR);
    let door = Door::open(store.url(), Some(server.acceptor(None)));
    let plain = format!("http://localhost:{}", door.port());
    assert_refused(&ask(&["--store", &plain]), 4, "write https");
    let tls = store.url().replace("http://", "https://");
    assert_refused(&ask(&["--store", &tls, "--ca-file", &ca]), 4, "write http");
}

#[test]
fn an_older_version_of_tls_is_refused() {
    let folder = TempDir::new().expect("a folder");
    let ca = Authority::new("ours").file(folder.path(), "ca.pem");
    // A greeting of TLS 1.0: random octets, no session, TLS_RSA_WITH_AES_128_CBC_SHA.
    let mut greeting = vec![22, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1];
    greeting.extend([7; 32]);
    greeting.extend([0, 0, 0x2f, 0]);
    let (address, server) = answering(1, move |mut stream, _| {
        let _ = stream.write_all(&greeting);
    });
    let url = format!("https://localhost:{}", address.port());
    assert_refused(&ask(&["--store", &url, "--ca-file", &ca]), 4, "over TLS");
    server.join().expect("no panic");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let folder = TempDir::new().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    std::fs::write(path("empty.pem"), "no certificate\n").expect("ours");
    for (option, file) in [("--ca-file", path("missing.pem")), ("--ca-file", path("empty.pem"))] {
        assert_refused(&ask(&["--store", "https://localhost:1", option, &file]), 2, &file);
    }
}

#[test]
fn batches_go_over_tls_with_each_compression() {
    let folder = TempDir::new().expect("a folder");
    let store = Store::start();
    let authority = Authority::new("ours");
    let ca = authority.file(folder.path(), "ca.pem");
    let server = authority.identity("localhost", FAR);
    let door = Door::open(store.url(), Some(server.acceptor(None)));
    let (_captures, file) = folder_with("made.pcap", &capture());
    for codec in ["none", "lz4", "zstd"] {
        let output = format!("clickhouse:https://localhost:{}", door.port());
        let mut command = std::process::Command::new(flow_tests::bin_path::flow_agent());
        command.args(["replay", "--output", &output, "--exporter", codec, "--ca-file", &ca]);
        let output = command.args(["--compression", codec]).arg(&file).output().expect("it starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let question = "SELECT exporter, count(), sum(packets), sum(bytes) FROM flow.flows \
        GROUP BY exporter ORDER BY exporter FORMAT CSV";
    let rows = store.sql(question);
    let counts: Vec<_> = rows.lines().filter_map(|line| line.split_once(',')).collect();
    assert_eq!(counts.len(), 3, "{rows}");
    assert!(counts.iter().all(|(_, count)| *count == counts[0].1), "{rows}");
}
