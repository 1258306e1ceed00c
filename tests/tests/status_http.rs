//! The server of the status: bad clients, addresses that cannot be had, and commands that find
//! no agent. Needs root, the agent's binary and libchdb.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use flow_tests::bin_path::flow_agent;
use flow_tests::lab::Lab;
use flow_tests::raw_http;
use flow_tests::refusal::sentence;
use flow_tests::rig;
use flow_tests::status::{ANY_PORT, Status};
use flow_tests::traffic::{self, Ends};
use serde_json::Value;

#[test]
fn bad_clients_are_refused_and_hinder_nobody() -> Result<()> {
    let lab = Lab::new()?;
    let store = flow_tests::store::Store::start();
    let agent = rig::agent(&lab, ("tc", "tc"), store.url(), &ANY_PORT)?;
    let status = Status::of(&agent)?;
    let url = status.url();
    let json_type = ("Content-Type", "application/json");
    let invalidate = "/api/v1/cache/invalidate";
    let large = vec![b' '; 20 << 10];
    for (method, target, headers, body, code, words) in [
        ("POST", "/metrics", &[][..], &b""[..], 405, "it takes GET, HEAD"),
        ("DELETE", "/api/v1/flows", &[], b"", 405, "does not take DELETE"),
        ("GET", invalidate, &[], b"", 405, "it takes POST"),
        ("OPTIONS", invalidate, &[], b"", 405, "it takes POST"),
        ("GET", "/page", &[], b"", 404, "there is no page /page; there are /, /healthz"),
        ("GET", "/api/v1/flows/../status", &[], b"", 404, "there is no page"),
        ("GET", "/api/v1/flows", &[], b"", 400, "the key is missing"),
        ("GET", "/api/v1/flows?key=tcp", &[], b"", 400, "write PROTOCOL,END,END"),
        ("GET", "/api/v1/flows?kee=tcp", &[], b"", 400, "there are key, store"),
        ("GET", "/metrics?key=tcp", &[], b"", 400, "there are none"),
        ("POST", invalidate, &[], b"{\"all\":true}", 415, "must be application/json"),
        ("POST", invalidate, &[json_type], b"{}", 400, "exactly one of"),
        ("POST", invalidate, &[json_type], b"{", 400, "no order to invalidate"),
        ("POST", invalidate, &[json_type], &large, 413, "larger than"),
    ] {
        let answer = raw_http::send(url, method, target, headers, body);
        assert_eq!(answer.status, code, "{method} {target}: {}", answer.text());
        let page: Value = serde_json::from_str(&answer.text())?;
        let error = page["error"].as_str().unwrap_or_default();
        assert!(error.contains(words), "{method} {target}: {page}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("allow").is_some(), code == 405, "{}", answer.head);
    }
    let answer = raw_http::send(url, "HEAD", "/metrics", &[], b"");
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    // Another name for this host, as a web page in its browser would use.
    let mut stream = raw_http::connect(url);
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: example.org\r\n\r\n")?;
    assert_eq!(raw_http::read_answer(stream)?.status, 421);
    // Heads that are too large or have too many headers.
    let long = "x".repeat(40 << 10);
    assert_refused(url, &format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"))?;
    assert_refused(url, &format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n"))?;
    let many = "X: y\r\n".repeat(1_000);
    assert_refused(url, &format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"))?;
    for garbage in ["\r\n\r\n\r\n", "\0\u{1}\u{2}\r\n\r\n", "GET\r\n\r\n"] {
        assert_refused(url, garbage)?;
    }
    // A body that never comes, and heads that come slowly.
    let mut slow = Vec::new();
    for request in [
        format!(
            "POST {invalidate} HTTP/1.1\r\nHost: localhost\r\nContent-Type: \
                 application/json\r\nContent-Length: 100\r\n\r\n{{"
        ),
        "GET /metrics HTT".into(),
    ] {
        let mut stream = raw_http::connect(url);
        stream.write_all(request.as_bytes())?;
        slow.push(stream);
    }
    // More clients than there are places, that say nothing; who asks is answered nevertheless.
    let idle: Vec<_> = (0..500).map(|_| TcpStream::connect(status.address())).collect();
    assert!(idle.iter().all(Result::is_ok), "the listener takes them");
    assert_eq!(status.json("/readyz")?["ready"], true);
    let answer = raw_http::read_answer(slow.remove(0))?;
    assert_eq!(answer.status, 408, "{}", answer.text());
    let mut rest = Vec::new();
    // Cut off without an answer, or with one that says so.
    let _ = slow.remove(0).read_to_end(&mut rest);
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"), "{rest:?}");
    drop(idle);
    // And 500 that ask, all at once.
    let answers = std::thread::scope(|scope| {
        let asking: Vec<_> =
            (0..500).map(|_| scope.spawn(|| status.get("/api/v1/status"))).collect();
        asking.into_iter().map(|asking| asking.join().expect("no panic")).collect::<Vec<_>>()
    });
    for answer in answers {
        assert_eq!(answer?.status, 200);
    }
    let counts = rig::tally(&lab, |lab| {
        traffic::ask(Ends::v4((&lab.left, 0), (&lab.right, 0), 53), 50, 2, 100, 100)
    })?;
    agent.stop()?;
    rig::exact(&lab, store.url(), &counts)
}

/// The connection ends, with an answer that is an error or without one.
fn assert_refused(url: &str, request: &str) -> Result<()> {
    let mut stream = raw_http::connect(url);
    // The server may have cut the connection before everything was sent.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let refused = answer.is_empty() || answer.starts_with(b"HTTP/1.1 4");
    ensure!(refused, "{}: {}", &request[..request.len().min(60)], String::from_utf8_lossy(&answer));
    Ok(())
}

#[test]
fn an_address_that_cannot_be_had_is_told_and_the_default_one_is_not_needed() -> Result<()> {
    let run = |arguments: &[&str]| -> Result<Output> {
        let mut command = Command::new(flow_agent());
        command.arg("run").args(["--interface", "lo", "--pin-dir", ""]).args(arguments);
        Ok(command.output()?)
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let words = sentence(&run(&["--status", &address])?, 1);
    assert!(words.contains(&format!("cannot be served at {address}: the address is in use")));
    for (address, words) in [
        ("0.0.0.0:9469", "for this host alone"),
        ("192.0.2.1:9469", "for this host alone"),
        ("localhost", "IP:PORT on this host"),
    ] {
        let error = sentence(&run(&["--status", address])?, 2);
        assert!(error.contains("--status is") && error.contains(words), "{error}");
    }
    let lab = Lab::new()?;
    let store = flow_tests::store::Store::start();
    // Whoever has the port: this test or another agent.
    let default = std::net::TcpListener::bind("127.0.0.1:9469");
    let busy = rig::agent(&lab, ("tc", "tc"), store.url(), &[])?;
    assert!(busy.log().contains("127.0.0.1:9469: the address is in use"), "{}", busy.log());
    assert!(busy.log().contains("this agent goes on without"), "{}", busy.log());
    busy.stop()?;
    drop(default);
    let off = rig::agent(&lab, ("tc", "tc"), store.url(), &["--status", ""])?;
    assert!(!off.log().contains("status is at"), "{}", off.log());
    off.stop()?;
    Ok(())
}

#[test]
fn commands_without_an_agent_say_so() -> Result<()> {
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let nobody = Status::at(&format!("http://{free}"));
    for arguments in [
        &["cache", "stats"][..],
        &["cache", "invalidate", "--all"],
        &["explain", "tcp,10.0.0.1:1,10.0.0.2:2"],
    ] {
        let words = sentence(&nobody.command(arguments)?, 1);
        assert!(words.contains(&format!("no flow-agent answers at {free}")), "{words}");
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("agent.toml");
    let path = file.display().to_string();
    let stats = || Command::new(flow_agent()).args(["cache", "stats", "--config", &path]).output();
    std::fs::write(&file, format!("[status]\nlisten = \"{free}\"\n"))?;
    assert!(sentence(&stats()?, 1).contains(&free.to_string()));
    std::fs::write(&file, "[status]\nlisten = \"\"\n")?;
    assert!(sentence(&stats()?, 2).contains("switches the status off"));
    // What answers is something else.
    let other = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = other.local_addr()?;
    let answering = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = other.accept()?;
        let mut request = [0; 16];
        stream.read_exact(&mut request)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    });
    let words =
        sentence(&Status::at(&format!("http://{address}")).command(&["cache", "stats"])?, 1);
    assert!(words.contains("is no flow-agent of this version"), "{words}");
    answering.join().expect("no panic")?;
    let usage = Command::new(flow_agent()).args(["cache", "invalidate"]).output()?;
    assert_eq!(usage.status.code(), Some(2));
    Ok(())
}
