//! Servers that are no ClickHouse, say too much or nothing.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::{Arc, Mutex};

use flow_agent::sink::{
    Access, AccessConfig, ClickHouse, PasswordFile, Servers, SinkError, StoreAddress,
};
use flow_tests::bin_path::flow_agent;
use flow_tests::made::{capture, folder_with};
use flow_tests::store::Store;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::servers::{answering, reply};
use super::{ask, assert_answered, assert_refused};

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

#[test]
fn a_page_is_no_answer() {
    for status in ["200 OK", "302 Found", "403 Forbidden", "502 Bad Gateway"] {
        let (address, server) = answering(1, move |mut stream, _| {
            reply(&mut stream, status, "Content-Type: text/html\r\n", "<html>42</html>");
        });
        let output = ask(&["--store", &url(address)]);
        assert_refused(&output, 4, "something that is not ClickHouse answered");
        let number = status.split(' ').next().expect("a number");
        assert_refused(&output, 4, &format!("status {number}"));
        server.join().expect("no panic");
    }
}

/// Gives everything on to a store but inserts into `flows`, which a page is the answer to.
async fn swallow_inserts(listener: tokio::net::TcpListener, store: String) {
    while let Ok((mut near, _)) = listener.accept().await {
        let store = store.clone();
        tokio::spawn(async move {
            let mut far = tokio::net::TcpStream::connect(store).await.expect("the store");
            let (mut request, mut answer) = (vec![0; 1 << 16], vec![0; 1 << 16]);
            loop {
                tokio::select! {
                    length = near.read(&mut request) => {
                        let Ok(length @ 1..) = length else { return };
                        let text = String::from_utf8_lossy(&request[..length]).into_owned();
                        let line = text.lines().next().unwrap_or_default();
                        if line.starts_with("POST /") && line.contains("INSERT") && line.contains("flows") {
                            let page = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOk";
                            let _ = near.write_all(page.as_bytes()).await;
                            while near.read(&mut request).await.is_ok_and(|length| length > 0) {}
                            return;
                        }
                        if far.write_all(&request[..length]).await.is_err() { return }
                    }
                    length = far.read(&mut answer) => {
                        let Ok(length @ 1..) = length else { return };
                        if near.write_all(&answer[..length]).await.is_err() { return }
                    }
                }
            }
        });
    }
}

#[test]
fn a_page_acknowledges_no_batch() {
    let store = Store::start();
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let bound = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
    let listener = bound.expect("a free port");
    let address = listener.local_addr().expect("bound");
    runtime.spawn(swallow_inserts(listener, store.url().trim_start_matches("http://").into()));
    let (_captures, file) = folder_with("made.pcap", &capture());
    let output = Command::new(flow_agent())
        .args(["replay", "--output", &format!("clickhouse:{}", url(address))])
        .arg(&file)
        .output()
        .expect("it starts");
    assert_refused(&output, 4, "something that is not ClickHouse answered");
    assert_eq!(store.sql("SELECT count() FROM flow.flows"), "0");
}

#[test]
fn an_endless_error_is_not_read() {
    const LENGTH: usize = 100 << 20;
    // What the kernel keeps between both ends.
    const BUFFERS: usize = 16 << 20;
    let (address, server) = answering(1, |mut stream, _| {
        let head = format!(
            "HTTP/1.1 500 Internal Server Error\r\nX-ClickHouse-Exception-Code: 241\r\n\
             Content-Length: {LENGTH}\r\n\r\n"
        );
        let mut written = 0;
        let piece = vec![b'x'; 1 << 16];
        if stream.write_all(head.as_bytes()).is_ok() {
            while written < LENGTH && stream.write_all(&piece).is_ok() {
                written += piece.len();
            }
        }
        written
    });
    let output = ask(&["--store", &url(address)]);
    assert_refused(&output, 1, "241");
    assert!(output.stderr.len() < 1000, "the text is not shown");
    let written = server.join().expect("no panic")[0];
    assert!(written < BUFFERS, "{written} octets went out before the connection was closed");
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    // The kernel accepts, nobody answers.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let output = Command::new(flow_agent())
        .args(["schema", "apply", "--store", &url(address)])
        .output()
        .expect("it starts");
    assert_refused(&output, 4, "no answer within 10s");
    drop(listener);
}

#[test]
fn a_changed_password_is_read_again() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("password");
    let write = |text: &str| {
        std::fs::write(&path, text).expect("ours");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("ours");
    };
    write("one\n");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heard = seen.clone();
    let (address, server) = answering(2, move |mut stream, head| {
        let key = |line: &str| Some(line.to_lowercase().strip_prefix("x-clickhouse-key: ")?.into());
        let key: String = head.lines().find_map(key).unwrap_or_default();
        heard.lock().expect("no panic").push(key.clone());
        let mark = "X-ClickHouse-Server-Display-Name: s\r\n";
        if key == "two" {
            return reply(&mut stream, "200 OK", mark, "\u{1}\u{1}1\u{5}UInt8\u{1}");
        }
        let text = "Code: 516. DB::Exception: u: Authentication failed. (AUTHENTICATION_FAILED)";
        reply(&mut stream, "403 Forbidden", mark, text);
    });
    let config = AccessConfig {
        user: Some("u".into()),
        password_file: Some(PasswordFile::Path(path.clone())),
        ..AccessConfig::default()
    };
    let address = StoreAddress::local(&url(address));
    let servers = Servers::one(address.clone());
    let access = Access::open(&config, &servers, None).expect("read");
    let client = ClickHouse::new(address, access);
    write("two\n");
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let first = runtime.block_on(client.probe()).expect_err("the old password");
    assert!(matches!(first, SinkError::NewPassword { .. }), "{first}");
    assert!(first.was_never_sent() && first.is_transient(), "the batch can go again");
    runtime.block_on(client.probe()).expect("the new one");
    server.join().expect("no panic");
    assert_eq!(*seen.lock().expect("no panic"), ["one", "two"]);
}

#[test]
fn a_wrong_password_is_refused_and_not_shown() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("password");
    std::fs::write(&path, "hunter2\n").expect("ours");
    let path = path.to_str().expect("UTF-8");
    // World-readable: refused before anything is sent.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).expect("ours");
    let store = Store::start();
    let options = ["--store", store.url(), "--user", "nobody", "--password-file", path];
    let output = ask(&options);
    assert_refused(&output, 2, "chmod 600");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter2"));
    assert_answered(&ask(&["--store", store.url()]));
}
