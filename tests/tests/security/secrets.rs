//! Secrets are in no page, no file, no log, no argument and no row.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flow_agent::store::EmbeddedStore;
use flow_tests::bin_path::{flow_agent, flow_agent_with};
use flow_tests::lab::Lab;
use flow_tests::process::Agent;
use flow_tests::raw_http;
use flow_tests::rig;
use flow_tests::status::{ANY_PORT, Status, write_secret};
use flow_tests::store::DEADLINE;
use flow_tests::traffic::{self, Ends};

const TOKEN: &str = "canary-token-5f2e71c0d4";
const WRONG: &str = "canary-wrong-9b33aa10c7";
const PAGES: [&str; 17] = [
    "/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/api/v1/status",
    "/api/v1/config",
    "/api/v1/ledger",
    "/api/v1/cache?details=true",
    "/api/v1/spool",
    "/api/v1/latency",
    "/api/v1/interfaces",
    "/api/v1/events",
    "/api/v1/devices",
    "/api/v1/top",
    "/api/v1/enrichment",
    "/api/v1/history?hours=1",
    "/api/v1/overview",
];

/// Secrets in every form in which they travel.
struct Canaries(Vec<String>);

impl Canaries {
    fn new(secrets: &[&str]) -> Self {
        let mut forms = Vec::new();
        for secret in secrets {
            forms.push((*secret).to_owned());
            forms.push(STANDARD.encode(secret));
            for user in ["default", "canary"] {
                // The end of the encoding has its padding or not.
                let pair = STANDARD.encode(format!("{user}:{secret}"));
                forms.push(pair.trim_end_matches('=').to_owned());
            }
        }
        Self(forms)
    }

    fn look(&self, place: &str, octets: &[u8]) -> Result<()> {
        for form in &self.0 {
            let found = octets.windows(form.len()).any(|window| window == form.as_bytes());
            ensure!(!found, "{place} shows a secret: {}", String::from_utf8_lossy(octets));
        }
        Ok(())
    }

    /// Every file below a folder.
    fn look_below(&self, folder: &Path) -> Result<usize> {
        let mut files = 0;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                files += self.look_below(&path)?;
            } else {
                files += 1;
                self.look(&path.display().to_string(), &fs::read(&path)?)?;
            }
        }
        Ok(files)
    }
}

/// This process and all that it started.
fn family(id: u32) -> Result<Vec<u32>> {
    let mut family = vec![id];
    let mut at = 0;
    while let Some(id) = family.get(at).copied() {
        at += 1;
        for task in fs::read_dir(format!("/proc/{id}/task"))? {
            let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
            family.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
        }
    }
    Ok(family)
}

#[test]
fn secrets_show_nowhere() -> Result<()> {
    let (lab, folder) = (Lab::new()?, tempfile::tempdir()?);
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    let store = EmbeddedStore::start(&flow_agent(), &path("data"), DEADLINE)?;
    let password = store.password().to_owned();
    let canaries = Canaries::new(&[&password, TOKEN, WRONG]);
    write_secret(&path("password"), &password)?;
    write_secret(&path("wrong"), WRONG)?;
    write_secret(&path("token"), TOKEN)?;
    let bearer = ("Authorization", format!("Bearer {TOKEN}"));
    let url = store.url().to_owned();
    // By a file, and in a URL of the environment.
    let in_url = url.replace("http://", &format!("http://default:{password}@"));
    for (variables, delivery, given) in [
        (String::new(), format!("password_file = '{}'\n", text("password")), url.as_str()),
        (format!("FLOW_AGENT__STORE='{in_url}'"), String::new(), ""),
    ] {
        let (file, kept) = (text("agent.toml"), path("kept"));
        let config = format!(
            "[status]\ntoken_file = '{}'\n[delivery]\nquarantine_dir = '{}'\n{delivery}",
            text("token"),
            kept.join("quarantine").display(),
        );
        fs::write(&file, config)?;
        let binary = flow_agent_with(folder.path(), &format!("RUST_LOG=trace {variables}"))?;
        let spool = kept.join("spool").display().to_string();
        let state = kept.join("state").display().to_string();
        let (left, right) = (lab.left.spec("tc"), lab.right.spec("tc"));
        let mut arguments = vec!["--config", &*file, "--interface", &left, "--interface", &right];
        arguments.extend(ANY_PORT);
        arguments.extend(["--spool-dir", &spool, "--state-file", &state]);
        if !given.is_empty() {
            arguments.extend(["--store", given]);
        }
        let agent = Agent::start(&binary, &arguments)?;
        let status = Status::of(&agent)?;
        let _ = rig::tally(&lab, |lab| {
            traffic::ask(Ends::v4((&lab.left, 0), (&lab.right, 0), 53), 20, 2, 100, 100)
        })?;
        for target in PAGES {
            for headers in [&[(bearer.0, bearer.1.as_str())][..], &[]] {
                let answer = raw_http::send(status.url(), "GET", target, headers, b"");
                ensure!(answer.status != 500, "{target}: {} {}", answer.status, answer.text());
                canaries.look(target, format!("{}{}", answer.head, answer.text()).as_bytes())?;
            }
        }
        let wrong = [("Authorization", &*format!("Bearer {WRONG}"))];
        let refused = raw_http::send(status.url(), "GET", "/metrics", &wrong, b"");
        ensure!(refused.status == 401);
        canaries.look("the refusal", &refused.body)?;
        // This test has started the store, the agent, and what these have started.
        let family = family(std::process::id())?;
        ensure!(family.contains(&agent.id()) && family.contains(&store.pid()), "{family:?}");
        for id in family {
            let words = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            canaries.look("a command line", &words)?;
        }
        let page = ["config", "print", "--effective", "--config", &file];
        let mut print = Command::new(&binary);
        let printed = print.args(page).output()?;
        ensure!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
        canaries.look("config print", &[printed.stdout, printed.stderr].concat())?;
        ensure!(canaries.look_below(&kept)? > 0, "the agent keeps files");
        let log = agent.stop()?;
        ensure!(log.contains("TRACE"), "everything is logged");
        ensure!(!log.contains("panicked"), "{log}");
        canaries.look("the log", log.as_bytes())?;
    }
    // What is stored says nothing of it either.
    let key = [("X-ClickHouse-User", EmbeddedStore::USER), ("X-ClickHouse-Key", &*password)];
    let ask = |sql: &str| raw_http::send(&url, "POST", "/", &key, sql.as_bytes()).text();
    let tables = ask("SELECT name FROM system.tables WHERE database = 'flow' AND engine != 'View'");
    ensure!(tables.lines().count() > 5, "{tables}");
    for table in tables.lines() {
        let rows = ask(&format!("SELECT * FROM flow.`{table}` LIMIT 1000 FORMAT JSONEachRow"));
        canaries.look(table, rows.as_bytes())?;
    }
    refusals(&canaries, &url, &text("wrong"))?;
    store.stop(DEADLINE)?;
    Ok(())
}

/// What commands say when the store refuses who asks.
fn refusals(canaries: &Canaries, url: &str, wrong: &str) -> Result<()> {
    let in_url = url.replace("http://", &format!("http://canary:{WRONG}@"));
    for access in [
        vec!["--store", url, "--user", "canary", "--password-file", wrong],
        vec!["--store", &in_url],
    ] {
        for command in [
            &["query", "SELECT 1"][..],
            &["report", "top-talkers"],
            &["schema", "verify"],
            &["schema", "apply"],
            &["run", "--interface", "lo", "--pin-dir", "", "--spool-dir", "", "--state-file", ""],
        ] {
            let mut said = Command::new("timeout");
            said.arg("20").arg(flow_agent()).args(command).args(&access).env("RUST_LOG", "trace");
            let output = said.output()?;
            let text = [output.stdout, output.stderr].concat();
            ensure!(!output.status.success(), "{command:?} {}", String::from_utf8_lossy(&text));
            ensure!(!text.is_empty(), "{command:?} says why");
            canaries.look(&command.join(" "), &text)?;
        }
    }
    Ok(())
}
