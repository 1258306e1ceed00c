//! Who may ask the status, how often, and over what: limits, names of requests, tokens and TLS.
//! Needs root, the agent's binary, libchdb and curl.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flow_tests::bin_path::{flow_agent, flow_agent_with};
use flow_tests::process::{self, Agent};
use flow_tests::raw_http;
use flow_tests::rig::{self, Rig};
use flow_tests::status::{ANY_PORT, Status, write_secret};
use flow_tests::traffic::{self, Ends};
use rcgen::{CertificateParams, KeyPair, SanType};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde_json::Value;

const TOKEN: &str = "correct-horse-battery-staple";

/// An agent with this section `status` that logs what it is asked.
fn agent(rig: &Rig, folder: &Path, status: &str) -> Result<(Agent, Status)> {
    let file = folder.join("agent.toml");
    fs::write(&file, format!("[status]\n{status}"))?;
    let program = flow_agent_with(folder, "RUST_LOG=info,flow_agent::status=debug")?;
    let file = file.to_str().context("a path in UTF-8")?;
    let more = [&ANY_PORT[..], &["--config", file]].concat();
    let agent = rig::agent_of(&program, &rig.lab, ("tc", "tc"), rig.store.url(), &more)?;
    let status = Status::of(&agent)?;
    Ok((agent, status))
}

fn curl(arguments: &[&str]) -> Result<(u16, String)> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}"])
        .args(arguments)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, code) = text.rsplit_once('\n').context("curl writes the code")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    Ok((code.parse()?, format!("{body}{errors}")))
}

#[test]
fn ten_thousand_connections_hinder_nobody() -> Result<()> {
    let all = Rlimit { current: Some(20_000), maximum: Some(20_000) };
    setrlimit(Resource::Nofile, all)?;
    let (rig, folder) = (Rig::new()?, tempfile::tempdir()?);
    let (agent, status) = agent(&rig, folder.path(), "")?;
    let before = process::memory(agent.id())?;
    let mut connections = Vec::new();
    for n in 0..10_000 {
        // What was accepted may be cut off later: that is what makes room.
        let mut stream = TcpStream::connect(status.address())?;
        if n % 2 == 0 {
            let _ = stream.write_all(b"GET /api/v1/status HT");
        }
        connections.push(stream);
    }
    let counts = rig::tally(&rig.lab, |lab| {
        traffic::ask(Ends::v4((&lab.left, 0), (&lab.right, 0), 53), 200, 3, 100, 100)
    })?;
    ensure!(status.json("/readyz")?["ready"] == true);
    let files = fs::read_dir(format!("/proc/{}/fd", agent.id()))?.count();
    ensure!(files < 500, "{files} files are open");
    let grown = process::memory(agent.id())?.saturating_sub(before);
    ensure!(grown < 64 << 20, "{grown} octets more");
    drop(connections);
    agent.stop()?;
    rig::exact(&rig.lab, rig.store.url(), &counts)
}

#[test]
fn a_slow_head_is_told_so_and_a_full_house_too() -> Result<()> {
    let (rig, folder) = (Rig::new()?, tempfile::tempdir()?);
    let (agent, status) = agent(&rig, folder.path(), "max_connections = 2\npprof = true\n")?;
    let mut slow = raw_http::connect(status.url());
    slow.write_all(b"GET /readyz HT")?;
    let late = raw_http::read_answer(slow)?;
    ensure!(late.status == 408 && late.text().contains("within 5 s"), "{}", late.text());
    // Two that have asked for what takes long: who comes then is told to come later.
    let request = b"GET /debug/pprof/profile?seconds=6 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let body = b"POST /api/v1/cache/invalidate HTTP/1.1\r\nHost: localhost\r\nContent-Type: \
        application/json\r\nContent-Length: 9\r\n\r\n";
    let mut busy = [raw_http::connect(status.url()), raw_http::connect(status.url())];
    busy[0].write_all(request)?;
    busy[1].write_all(body)?;
    agent.wait_until("a full house", Duration::from_secs(10), || {
        let mut stream = raw_http::connect(status.url());
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        // The oldest without a request is asked to go first, so this may be answered.
        let answer = raw_http::read_answer(stream);
        Ok(answer.is_ok_and(|it| it.status == 503 && it.text().contains("max_connections")))
    })?;
    let [profile, _] = busy;
    ensure!(raw_http::read_answer(profile)?.status == 200);
    ensure!(status.json("/readyz")?["ready"] == true);
    agent.stop()?;
    Ok(())
}

#[test]
fn who_asks_too_often_waits_and_every_request_has_a_name() -> Result<()> {
    let (rig, folder) = (Rig::new()?, tempfile::tempdir()?);
    let (agent, status) = agent(&rig, folder.path(), "requests_per_second = 2\n")?;
    let name = [("X-Request-Id", "tuesday-7")];
    let named = raw_http::send(status.url(), "GET", "/api/v1/nothing", &name, b"");
    ensure!(named.header("x-request-id") == Some("tuesday-7"), "{}", named.head);
    let page: Value = serde_json::from_str(&named.text())?;
    ensure!(page["request_id"] == "tuesday-7", "{page}");
    let made = status.get("/readyz")?;
    let made = made.header("x-request-id").context("a name is made")?.to_owned();
    for (name, words) in
        [("tuesday-7", "path=\"/api/v1/nothing\" status=404"), (&made, "status=200")]
    {
        agent.wait_log(name, Duration::from_secs(5))?;
        let log = agent.log();
        let line = log.lines().find(|line| line.contains(name)).context("just seen")?;
        ensure!(line.contains(words) && line.contains("client=127.0.0.1"), "{line}");
    }
    // Asked without the patience that `Status` has for a 429.
    let answers: Vec<_> =
        (0..40).map(|_| raw_http::send(status.url(), "GET", "/healthz", &[], b"")).collect();
    let late: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    ensure!(late.len() >= 20, "{} of 40 at 2 a second", late.len());
    let wait: u64 = late[0].header("retry-after").context("how long to wait")?.parse()?;
    ensure!((1..=2).contains(&wait) && late[0].text().contains("requests_per_second"));
    // Another client of the same agent is served.
    let url = format!("{}/readyz", status.url());
    let (code, text) = curl(&["--interface", "127.0.0.2", &url])?;
    ensure!(code == 200, "{text}");
    agent.stop()?;
    Ok(())
}

#[test]
fn with_a_token_and_tls_only_who_has_it_is_answered() -> Result<()> {
    let (rig, folder) = (Rig::new()?, tempfile::tempdir()?);
    let path = |name: &str| folder.path().join(name).display().to_string();
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.subject_alt_names.push(SanType::IpAddress("127.0.0.1".parse()?));
    fs::write(path("cert.pem"), params.self_signed(&key)?.pem())?;
    fs::write(path("key.pem"), key.serialize_pem())?;
    write_secret(Path::new(&path("token")), TOKEN)?;
    write_secret(Path::new(&path("wrong")), "another-token-of-the-same")?;
    let (cert, token) = (path("cert.pem"), path("token"));
    let section = format!(
        "token_file = '{token}'\ntls_cert_file = '{cert}'\ntls_key_file = '{}'\n",
        path("key.pem")
    );
    let (agent, status) = agent(&rig, folder.path(), &section)?;
    ensure!(status.url().starts_with("https://"), "{}", status.url());
    let url = |target: &str| format!("{}{target}", status.url());
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let basic = format!("anybody:{TOKEN}");
    for (more, target, code) in [
        (&["--header", &bearer][..], "/api/v1/status", 200),
        (&["--user", &basic], "/metrics", 200),
        (&[], "/healthz", 200),
        (&[], "/readyz", 401),
        (&[], "/metrics", 401),
        (&[], "/no/such/page", 401),
        (&["--header", "Authorization: Bearer correct-horse-battery-stapl"], "/metrics", 401),
        (&["--header", "Authorization: Bearer"], "/metrics", 401),
        (&["--user", "anybody:"], "/metrics", 401),
        (&["--request", "POST"], "/api/v1/cache/invalidate", 401),
    ] {
        let (got, text) = curl(&[&["--cacert", &cert, &url(target)][..], more].concat())?;
        ensure!(got == code, "{more:?} {target}: {got} {text}");
        ensure!(code != 401 || text.contains("Authorization: Bearer TOKEN"), "{text}");
    }
    // Without TLS, and with one that trusts nobody.
    let plain = url("/healthz").replace("https", "http");
    ensure!(curl(&[&plain])?.0 == 0, "plain HTTP is no answer");
    ensure!(curl(&[&url("/healthz")])?.0 == 0, "the certificate is nobody's");
    let asked = |more: &[&str]| -> Result<Output> {
        let mut command = Command::new(flow_agent());
        command.args(["cache", "stats", "--status", status.address()]).args(more);
        Ok(command.output()?)
    };
    let said = asked(&["--status-ca-file", &cert, "--status-token-file", &token])?;
    ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    for (more, words) in [
        (vec!["--status-ca-file", &cert], "a token is needed"),
        (
            vec!["--status-ca-file", &cert, "--status-token-file", &path("wrong")],
            "a token is needed",
        ),
        (vec!["--status-token-file", &token], "is no flow-agent"),
    ] {
        let said = asked(&more)?;
        let errors = String::from_utf8_lossy(&said.stderr).into_owned();
        ensure!(said.status.code() == Some(1) && errors.contains(words), "{more:?}: {errors}");
    }
    ensure!(!agent.log().contains(TOKEN), "the token is in the log");
    agent.stop()?;
    Ok(())
}

#[test]
fn what_would_be_open_to_others_does_not_start() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("open"), TOKEN)?;
    fs::write(path("not.pem"), "nothing")?;
    write_secret(Path::new(&path("short")), "guess")?;
    let tls = format!("tls_cert_file = '{0}'\ntls_key_file = '{0}'\n", path("not.pem"));
    for (section, words) in [
        ("listen = '0.0.0.0:0'\n".to_owned(), "token_file, tls_cert_file, tls_key_file"),
        (format!("listen = '[::]:0'\n{tls}"), "have token_file in [status]"),
        (format!("token_file = '{}'\n", path("open")), "chmod 600"),
        (format!("token_file = '{}'\n", path("short")), "can be guessed"),
        (format!("token_file = '{}'\n", path("none")), "No such file"),
        ("token_file = 'credential:status'\n".into(), "LoadCredential"),
        (tls.clone(), "no certificate in PEM"),
    ] {
        let file = path("agent.toml");
        fs::write(&file, format!("[status]\n{section}"))?;
        let said = Command::new(flow_agent())
            .args(["run", "--interface", "lo", "--pin-dir", "", "--config", &file])
            .output()?;
        let errors = String::from_utf8_lossy(&said.stderr).into_owned();
        ensure!(said.status.code() == Some(2), "{section}: {errors}");
        ensure!(errors.lines().count() == 1 && errors.contains(words), "{section}: {errors}");
    }
    Ok(())
}
