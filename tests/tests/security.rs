//! What an attacker tries: secrets that might show somewhere, paths that might lead elsewhere,
//! and SQL in everything that reaches the store. Needs root, the agent's binary and libchdb.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flow_agent::store::EmbeddedStore;
use flow_tests::bin_path::flow_agent;
use flow_tests::lab::Lab;
use flow_tests::proxy::Proxy;
use flow_tests::raw_http::{self, Answer};
use flow_tests::rig::{self, Rig};
use flow_tests::status::{ANY_PORT, Status, write_secret};
use flow_tests::store::{DEADLINE, Store};
use flow_tests::traffic::{self, Ends};
use url::form_urlencoded::byte_serialize;

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

/// A binary that is this one with everything logged.
fn tracing(folder: &Path, variables: &str) -> Result<std::path::PathBuf> {
    let wrapper = folder.join("agent.sh");
    let binary = flow_agent().display().to_string();
    fs::write(&wrapper, format!("#!/bin/sh\nRUST_LOG=trace {variables} exec {binary} \"$@\"\n"))?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    Ok(wrapper)
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
        let binary = tracing(folder.path(), &variables)?;
        let spool = kept.join("spool").display().to_string();
        let state = kept.join("state").display().to_string();
        let (left, right) = (lab.left.spec("tc"), lab.right.spec("tc"));
        let mut arguments = vec!["--config", &*file, "--interface", &left, "--interface", &right];
        arguments.extend(ANY_PORT);
        arguments.extend(["--spool-dir", &spool, "--state-file", &state]);
        if !given.is_empty() {
            arguments.extend(["--store", given]);
        }
        let agent = flow_tests::process::Agent::start(&binary, &arguments)?;
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

/// What is tried in place of a value.
const INJECTIONS: [&str; 12] = [
    "'; DROP TABLE flow.canary; --",
    "' OR 1=1 --",
    "\\'; TRUNCATE TABLE flow.canary; --",
    "\\\\'; DROP TABLE flow.canary; --",
    "1); DROP TABLE flow.canary; --",
    "1 UNION ALL SELECT name FROM flow.canary",
    "tcp,10.0.0.1:1,10.0.0.2:2'); DROP TABLE flow.canary; --",
    "tcp,10.0.0.1:1,10.0.0.2:2\0'; DROP TABLE flow.canary",
    "`; DROP TABLE flow.canary; --",
    "\"; DROP TABLE flow.canary; --",
    "{canary:String}",
    "flow.canary",
];

fn escaped(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}

fn canary(store: &Store) {
    store.sql("CREATE TABLE flow.canary (name String) ENGINE = MergeTree ORDER BY name");
    store.sql("INSERT INTO flow.canary VALUES ('yellow')");
}

fn sings(store: &Store) -> Result<()> {
    let rows = store.sql("SELECT name FROM flow.canary");
    ensure!(rows == "yellow", "the canary: {rows}");
    Ok(())
}

#[test]
fn sql_in_what_the_status_and_the_commands_take_stays_a_value() -> Result<()> {
    let rig = Rig::new()?;
    let proxy = Proxy::start(rig.store.url())?;
    let statements = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = statements.clone();
    proxy.on_request(move |request| {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(request.statement.clone());
        None
    });
    let agent = rig::agent(&rig.lab, ("tc", "tc"), &proxy.url(), &ANY_PORT)?;
    let status = Status::of(&agent)?;
    canary(&rig.store);
    let usual = |sql: &str| ["/api/v1/flows?key=", "&store=true"].join(&escaped(sql));
    // One that is right, so that the store is asked at all.
    let found = status.get(&usual("tcp,10.0.0.1:1,10.0.0.2:2"))?;
    ensure!(found.status == 200, "{}", found.text());
    ensure!(status.get("/api/v1/history?hours=1")?.status == 200);
    let asked = statements.lock().unwrap_or_else(PoisonError::into_inner).len();
    ensure!(asked > 2, "the store was asked");
    for sql in INJECTIONS {
        let value = escaped(sql);
        let targets = [
            usual(sql),
            usual(&format!("tcp,10.0.0.1:1,{sql}")),
            format!("/api/v1/flows?key=tcp,10.0.0.1:1,10.0.0.2:2&store={value}"),
            format!("/api/v1/history?hours={value}"),
            format!("/api/v1/flows/open?search={value}"),
            format!("/api/v1/flows/open?limit={value}"),
            format!("/api/v1/overview?since={value}"),
            format!("/api/v1/latency?buckets={value}"),
            format!("/api/v1/cache?details={value}"),
            format!("/api/v1/top?{value}=1"),
            format!("/api/v1/events?{value}"),
            format!("/{value}"),
        ];
        for target in targets {
            let answer = status.get(&target)?;
            ensure!(answer.status < 500, "{target}: {} {}", answer.status, answer.text());
        }
        for key in ["key", "prefix", "interface", "version", "mode"] {
            let order = serde_json::json!({ key: sql }).to_string();
            let kind = [("Content-Type", "application/json")];
            let path = "/api/v1/cache/invalidate";
            let answer = raw_http::send(status.url(), "POST", path, &kind, order.as_bytes());
            ensure!([200, 400, 429].contains(&answer.status), "{order}: {}", answer.text());
        }
        for command in [
            &["report", "top-talkers", "--last", sql][..],
            &["report", "conversations", "--from", sql],
            &["report", "services", "--limit", sql],
        ] {
            let output =
                Command::new(flow_agent()).args(command).args(["--store", &proxy.url()]).output();
            // The operating system refuses a NUL in an argument itself.
            if let Ok(output) = output {
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                ensure!(!text.contains("panicked"), "{command:?}: {text}");
            }
        }
    }
    for sql in INJECTIONS.iter().filter(|sql| !sql.contains(['\0', '\\', '\''])) {
        let parameter = format!("value={sql}");
        let output = Command::new(flow_agent())
            .args(["query", "SELECT {value:String}", "--param", &parameter])
            .args(["--store", rig.store.url()])
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(text.trim_end() == *sql, "{sql}: {text}");
    }
    for statement in statements.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        ensure!(!statement.contains("canary"), "a value became SQL: {statement}");
    }
    sings(&rig.store)?;
    agent.stop()?;
    Ok(())
}

#[test]
fn sql_in_what_surrounds_a_query_of_the_store_is_not_run() -> Result<()> {
    let store = Store::start();
    store.sql("CREATE DATABASE flow");
    canary(&store);
    let get = |target: &str, headers: &[(&str, &str)]| {
        raw_http::send(store.url(), "POST", target, headers, b"SELECT 1 FORMAT TSV")
    };
    ensure!(get("/?max_threads=1", &[]).text() == "1\n");
    for sql in INJECTIONS {
        let value = escaped(sql);
        for name in [
            "database",
            "default_format",
            "query_id",
            "session_id",
            "session_timeout",
            "max_threads",
            "log_comment",
            "user",
            "compress",
            "client_protocol_version",
        ] {
            whole_or_refused(&get(&format!("/?{name}={value}"), &[]), name, sql)?;
        }
        // As the name of a setting, in a header, as a parameter.
        whole_or_refused(&get(&format!("/?{value}=1"), &[]), "a name", sql)?;
        if !sql.contains('\0') {
            for header in ["X-ClickHouse-Database", "X-ClickHouse-Format", "X-ClickHouse-Query-Id"]
            {
                whole_or_refused(&get("/", &[(header, sql)]), header, sql)?;
            }
        }
        let target =
            format!("/?query=SELECT+%7Bx:String%7D+AS+x+FORMAT+JSONEachRow&param_x={value}");
        let answer = raw_http::send(store.url(), "GET", &target, &[], b"");
        // Backslashes mean something in a parameter; what cannot be read is refused.
        if answer.status == 200 && !sql.contains('\\') {
            let row: serde_json::Value = serde_json::from_str(&answer.text())?;
            ensure!(row["x"] == sql, "{row}");
        }
        // Several statements in one request, and writing by GET.
        for statement in
            ["SELECT 1; DROP TABLE flow.canary", "SELECT 1;;/**/DROP TABLE flow.canary"]
        {
            let answer = raw_http::post(store.url(), "/", statement.as_bytes());
            ensure!(answer.status == 400, "{}", answer.text());
        }
        let answer = raw_http::send(store.url(), "GET", "/?query=DROP+TABLE+flow.canary", &[], b"");
        ensure!(answer.status >= 400 && answer.text().contains("readonly"), "{}", answer.text());
    }
    sings(&store)?;
    store.stop();
    Ok(())
}

/// The answer to `SELECT 1`, or an error.
fn whole_or_refused(answer: &Answer, place: &str, sql: &str) -> Result<()> {
    let right = answer.status == 200 && answer.text().contains('1');
    ensure!(
        right || (400..=500).contains(&answer.status),
        "{place} {sql}: {} {}",
        answer.status,
        answer.text()
    );
    Ok(())
}

/// A text whose tokens are other ones for the engine than they seem, so that a statement hides.
const HIDDEN: [&str; 11] = [
    "SELECT 1 AS a$b$; DROP TABLE flow.canary; SELECT 2 AS c$b$",
    "SELECT 1 AS $a$; DROP TABLE flow.canary",
    "SELECT 1 a$b$ ; TRUNCATE TABLE flow.canary",
    "SELECT 1$a$'$a$; DROP TABLE flow.canary; SELECT ''",
    "SELECT 1\u{a0}AS x$a$'$a$; DROP TABLE flow.canary; SELECT ''",
    "SELECT \u{2018}'\u{2019}; DROP TABLE flow.canary; SELECT \u{2018}'\u{2019}",
    "SELECT 1 /* /* */ ' */; DROP TABLE flow.canary; SELECT ' '",
    "SELECT x'\\'; DROP TABLE flow.canary; SELECT '",
    "EXPLAIN SYNTAX SELECT 1 AS a$b$; DROP TABLE flow.canary",
    "WITH 1 AS a$b$ INSERT INTO flow.canary SELECT 'red' AS c$b$",
    ";DROP TABLE flow.canary",
];

/// Any page in a browser can send a GET, also to a store on loopback.
#[test]
fn no_statement_hides_behind_another_one() -> Result<()> {
    let store = Store::start();
    store.sql("CREATE DATABASE flow");
    canary(&store);
    for sql in HIDDEN {
        let target = format!("/?query={}", escaped(sql));
        let by_get = raw_http::send(store.url(), "GET", &target, &[], b"");
        ensure!(by_get.status >= 400, "{sql}: {}", by_get.text());
        sings(&store).with_context(|| sql.to_owned())?;
        if !sql.contains("INSERT") {
            let by_post = raw_http::post(store.url(), "/", sql.as_bytes());
            ensure!(by_post.status >= 400, "{sql}: {}", by_post.text());
            sings(&store).with_context(|| sql.to_owned())?;
        }
    }
    let insert = "INSERT INTO flow.canary (name) SETTINGS a$b$; DROP TABLE flow.canary; \
                  SELECT c$b$ VALUES ('red')";
    ensure!(raw_http::post(store.url(), "/", insert.as_bytes()).status >= 400);
    sings(&store)?;
    // What a page has a browser send says so.
    for header in [("Origin", "https://example.org"), ("Sec-Fetch-Site", "cross-site")] {
        let sql = b"DROP TABLE flow.canary";
        let refused = raw_http::send(store.url(), "POST", "/", &[header], sql);
        ensure!(refused.status == 403 && refused.text().contains("web page"), "{header:?}");
    }
    sings(&store)?;
    // What is one statement for both goes on.
    ensure!(store.sql("SELECT $a$ it's $a$;") == " it\\'s");
    ensure!(store.sql("SELECT 'ä;$' -- ; \n") == "ä;$");
    store.stop();
    Ok(())
}

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
