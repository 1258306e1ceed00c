//! Paths lead nowhere else, however they are written.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flow_tests::raw_http;
use flow_tests::rig::Rig;
use flow_tests::status::{ANY_PORT, Status};

#[test]
fn paths_lead_nowhere_else() -> Result<()> {
    let rig = Rig::new()?;
    let agent = rig.agent_with(("tc", "tc"), &ANY_PORT)?;
    let status = Status::of(&agent)?;
    for base in [status.url(), rig.store.url()] {
        for target in [
            "/../../etc/passwd",
            "/api/v1/../../../etc/passwd",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/..%2f..%2fetc/passwd",
            "/%2E%2E%5Cetc%5Cpasswd",
            "//etc/passwd",
            "//api/v1/status",
            "/./api/v1/status",
            "/api/v1/status/",
            "/api/v1/status%00",
            "/api/v1/status;x=1",
            "/API/V1/STATUS",
            "/proc/self/environ",
            "/metrics/..;/healthz",
        ] {
            let answer = raw_http::send(base, "GET", target, &[], b"");
            ensure!([400, 404].contains(&answer.status), "{target}: {}", answer.status);
            ensure!(!answer.text().contains("root:"), "{target}: {}", answer.text());
        }
    }
    // A whole URL as to a proxy, whose host is not this one, or is no path at all.
    for line in [
        "GET http://example.org/api/v1/config HTTP/1.1\r\nHost: example.org",
        "GET http://127.0.0.1/api/v1/config HTTP/1.1\r\nHost: example.org",
        "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22",
        "GET * HTTP/1.1\r\nHost: localhost",
        "GET /api/v1/config\0 HTTP/1.1\r\nHost: localhost",
        "GET /api/v1/config HTTP/1.1\r\nHost: localhost\r\nHost\0: x",
        "GET /api/v1/config HTTP/9.9\r\nHost: localhost",
        "POST /api/v1/cache/invalidate HTTP/1.1\r\nHost: localhost\r\nContent-Type: \
         application/json\r\nContent-Length: 3\r\nTransfer-Encoding: chunked",
    ] {
        let mut stream = raw_http::connect(status.url());
        stream.write_all(format!("{line}\r\n\r\n").as_bytes())?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        // Cut off without a word, or refused.
        if let Ok(answer) = raw_http::read_answer(stream) {
            ensure!((400..500).contains(&answer.status), "{line}: {}", answer.text());
        }
    }
    let page = status.json("/readyz").context("it goes on")?;
    ensure!(page["ready"] == true, "{page}");
    agent.stop()?;
    Ok(())
}
