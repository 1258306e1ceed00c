//! The documents are right: every command in them is one that the program has, those that can be
//! run are run as they are written, questions are asked of a store with rows, configurations are
//! checked. What a document calls `http://127.0.0.1:8123`, `127.0.0.1:9469` and `eth0` is there: a
//! network namespace has a loopback of its own. Needs root, the agent's binary, libchdb, curl, jq
//! and promtool (`cargo xtask setup`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flow_tests::bin_path::flow_agent;
use flow_tests::command_help::Help;
use flow_tests::documents::{Block, Typed, blocks, documents, mentioned, statements, words};
use flow_tests::lab::Lab;
use flow_tests::made;
use flow_tests::process::{Agent, Store};
use flow_tests::sql;
use flow_tests::status::Status;
use flow_tests::traffic::{self, Ends};
use jiff::civil::DateTime;
use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
const STORE: &str = "127.0.0.1:8123";
const STATUS: &str = "http://127.0.0.1:9469";

/// Servers of others and folders of a host: what they are here.
const PLACES: [(&str, &str); 9] = [
    ("http://clickhouse:8123", "http://127.0.0.1:8123"),
    ("https://clickhouse.example/flow", "http://127.0.0.1:8123/flow"),
    ("https://db.example.org:8443", "http://127.0.0.1:8123"),
    ("/var/lib/flow-agent/", "HOME/var/"),
    ("/etc/flow-agent/", "HOME/etc/"),
    ("/backups/", "HOME/backups/"),
    // It may take a while, and need not here.
    ("--seconds 10", "--seconds 1"),
    ("sleep 60", "sleep 0"),
    ("tail -1", "tail -n 1"),
];

/// What is not run, by how it begins, and what does instead.
const ELSEWHERE: [(&str, &str); 7] = [
    ("cargo xtask", "runs these tests, or is the demo"),
    ("apt install", "tests/tests/package.rs installs it"),
    ("install -D", "tests/tests/package.rs"),
    ("systemctl", "tests/tests/systemd.rs"),
    ("curl --cacert", "tests/tests/status_limits.rs has TLS and tokens"),
    ("curl -so cpu.pb", "tests/tests/pprof.rs reads profiles"),
    ("umask", "writes a random token"),
];

/// The exit codes that say neither wrong usage nor an error.
fn good_codes(words: &[String]) -> &'static [i32] {
    match words.get(1).map(String::as_str) {
        Some("check") => &[0, 5],   // a laboratory is no perfect host
        Some("explain") => &[0, 1], // the flow of an example is nowhere
        _ => &[0],
    }
}

#[test]
fn every_command_and_flag_that_the_documents_name_is_there() -> Result<()> {
    let mut help = Help::default();
    let mut named: Vec<Typed> = mentioned()?;
    named.extend(blocks()?.iter().flat_map(Block::typed));
    let ours = |line: &str| line.starts_with("flow-agent ") && !line.contains("listening on");
    named.retain(|typed| ours(&typed.line));
    assert!(named.len() > 60, "{named:?}");
    let mut wrong = Vec::new();
    for Typed { place, line } in &named {
        wrong.extend(help.wrong(line)?.map(|why| format!("{place}: {line}: {why}")));
    }
    assert_eq!(wrong, Vec::<String>::new());
    // And it would be seen.
    for bad in ["flow-agent check --jsno", "flow-agent bench kernle", "flow-agent plan [--host N]"]
    {
        assert!(help.wrong(bad)?.is_some(), "{bad}");
    }
    println!("{} commands", named.len());
    Ok(())
}

#[test]
fn configurations_of_the_documents_are_good() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("agent.toml");
    let tomls: Vec<_> = blocks()?.into_iter().filter(|block| block.kind == "toml").collect();
    assert!(!tomls.is_empty());
    for block in tomls {
        std::fs::write(&file, &block.text)?;
        let mut check = Command::new(flow_agent());
        let output = check.args(["config", "check", "--elsewhere"]).arg(&file).output()?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.success(), "{}: {said}", block.place);
    }
    let yamls: Vec<_> = blocks()?.into_iter().filter(|block| block.kind == "yaml").collect();
    assert!(!yamls.is_empty());
    for block in yamls {
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, &block.text)?;
        let output = Command::new("promtool").args(["check", "config"]).arg(&file).output()?;
        ensure!(output.status.success(), "{}: {output:?}", block.place);
    }
    Ok(())
}

/// A host as the documents have it: a store at its port, an agent that meters, rows.
struct Host {
    home: TempDir,
    _store: Store,
    agent: Agent,
}

impl Host {
    /// In the namespace of the calling thread.
    fn new(lab: &Lab) -> Result<Self> {
        let home = TempDir::with_prefix("flow-docs-")?;
        for folder in ["var", "etc", "backups", "work"] {
            std::fs::create_dir(home.path().join(folder))?;
        }
        let at = |name: &str| home.path().join(name);
        let store = Store::start_at(&flow_agent(), &at("data"), &at("store.log"), STORE)?;
        let config = at("etc/flow-agent.toml");
        let text = format!(
            "exporter = 'host-003'\ninterfaces = ['{}:tc', '{}']\npin_dir = ''\n\
             drain_interval_ms = 100\nidle_timeout_s = 1\nstore = 'http://{STORE}'\n\
             [batch]\nage_ms = 200\n[spool]\ndir = '{}'\n[state]\nfile = ''\n",
            lab.left.interface,
            lab.right.spec("tc"),
            at("var/spool").display(),
        );
        std::fs::write(&config, text)?;
        std::fs::write(at("work/agent.toml"), "")?;
        let capture = made::capture();
        std::fs::write(at("work/office.pcap"), &capture)?;
        // What is no gzip is taken as it is.
        std::fs::write(at("work/capture.pcapng.gz"), &capture)?;
        let config = config.to_str().context("a path in UTF-8")?;
        let agent = Agent::start(&flow_agent(), &["--config", config])?;
        let host = Self { home, _store: store, agent };
        host.run("flow-agent replay --output embedded:/var/lib/flow-agent/store office.pcap")?;
        let status = Status::at(STATUS);
        traffic::short(Ends::v4((&lab.left, 0), (&lab.right, 0), 443), 20, 200, 30_000)?;
        traffic::ask(Ends::v6((&lab.left, 0), (&lab.right, 0), 53), 10, 3, 40, 300)?;
        host.agent.wait_until("all is stored", PATIENCE, || {
            let packets = status.json("/api/v1/status")?["packets"].take();
            let of = |name: &str| packets[name].as_u64().unwrap_or_default();
            status.invalidate(&json!({ "all": true }))?;
            Ok(of("seen") > 100 && of("drained") == of("metered") && of("in_flight") == 0)
        })?;
        Ok(host)
    }

    /// A line as it is here.
    fn here(&self, line: &str) -> String {
        let home = self.home.path().display().to_string();
        let line =
            PLACES.iter().fold(line.to_owned(), |line, (there, here)| line.replace(there, here));
        line.replace("HOME/", &format!("{home}/"))
    }

    fn work(&self) -> PathBuf {
        self.home.path().join("work")
    }

    /// Runs what somebody may type; an error if it fails.
    fn run(&self, line: &str) -> Result<()> {
        let line = self.here(line);
        let words = words(&line);
        match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["flow-agent", "run", ..] => self.run_agent(&words[2..]),
            ["flow-agent", "store", ..] => self.run_store(&words[2..]),
            _ => self.run_shell(&line, good_codes(&words)),
        }
    }

    fn run_agent(&self, arguments: &[String]) -> Result<()> {
        let mut arguments = arguments.to_vec();
        if !arguments.iter().any(|argument| argument == "--interface") {
            // The default is hardware, which no laboratory has.
            arguments.extend(["--interface".into(), "eth0".into()]);
        }
        if !arguments.iter().any(|argument| argument == "--store") {
            // The default is a folder of the whole host.
            let store = self.home.path().join("var/of-agent");
            arguments.extend(["--store".into(), format!("embedded:{}", store.display())]);
        }
        Agent::start(&flow_agent(), &arguments)?.stop().map(drop)
    }

    /// At a free port: the one of the documents has a store already.
    fn run_store(&self, arguments: &[String]) -> Result<()> {
        let (mut folder, mut more) = (None, Vec::new());
        for pair in arguments.chunks(2) {
            match pair {
                [flag, value] if flag == "--dir" => folder = Some(self.work().join(value)),
                [flag, value] if flag == "--listen" && value == STORE => {}
                other => more.extend(other.iter().map(String::as_str)),
            }
        }
        more.extend(["--listen", "127.0.0.1:0"]);
        let folder = folder.context("a store has a folder")?;
        let log = self.home.path().join("other-store.log");
        Store::start_with(&flow_agent(), &folder, &log, &more)?.stop().map(drop)
    }

    fn run_shell(&self, line: &str, good: &[i32]) -> Result<()> {
        let home = self.home.path();
        let programs = flow_agent().parent().context("a folder")?.display().to_string();
        let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
        // What a server refuses is an error of curl.
        std::fs::write(home.join(".curlrc"), "fail-with-body\nsilent\nshow-error\n")?;
        let output = Command::new("timeout")
            .args(["60", "bash", "-o", "pipefail", "-c", line])
            .current_dir(self.work())
            .env("PATH", path)
            .env("CURL_HOME", home)
            // The hardware of this host.
            .env("FLOW_AGENT__INTERFACES", "eth0")
            .env("PID", self.agent.id().to_string())
            .output()?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let code = output.status.code();
        ensure!(code.is_some_and(|code| good.contains(&code)), "{line}: code {code:?}\n{said}");
        Ok(())
    }
}

#[test]
fn commands_and_questions_work_as_they_are_written() -> Result<()> {
    let lab = Lab::new()?;
    lab.left.namespace.ip("link add eth0 type veth peer name eth0-peer\nlink set eth0 up\n")?;
    lab.left.namespace.enter(|| {
        let host = Host::new(&lab)?;
        let (mut run, mut wrong) = (0, Vec::new());
        for typed in blocks()?.iter().flat_map(Block::typed) {
            if ELSEWHERE.iter().any(|(begin, _)| typed.line.starts_with(begin)) {
                continue;
            }
            run += 1;
            if let Err(error) = host.run(&typed.line) {
                wrong.push(format!("{}: {error:#}", typed.place));
            }
        }
        assert!(run > 30, "{run}");
        let asked = ask_all(&lab, &mut wrong)?;
        println!("{run} commands, {asked} questions");
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
        columns_are_documented()?;
        // And a wrong one would be seen.
        host.run("flow-agent query 'SELECT nothing FROM flow.flows'").expect_err("no such column");
        host.run("curl 127.0.0.1:9469/api/v1/nothing").expect_err("no such page");
        host.agent.stop().map(drop)
    })
}

/// Asks every question of the documents; how many.
fn ask_all(lab: &Lab, wrong: &mut Vec<String>) -> Result<usize> {
    let mut asked = 0;
    for block in blocks()?.iter().filter(|block| block.kind == "sql") {
        let titles: Vec<_> = block.text.lines().filter(|line| line.starts_with("-- ")).collect();
        for (at, statement) in statements(&block.text).iter().enumerate() {
            asked += 1;
            let title = titles.get(at).copied().unwrap_or_default();
            if let Err(error) = ask(lab, statement, title) {
                wrong.push(format!("{}: {error:#}", block.place));
            }
        }
    }
    Ok(asked)
}

/// A question whose title is `N. Text` has an answer; one whose title ends in `: COLUMNS` has
/// these.
fn ask(lab: &Lab, statement: &str, title: &str) -> Result<()> {
    let url = format!("http://{STORE}");
    let mut question = recently(&url, statement)?;
    question = question.replace("10.0.16.77", &lab.left.v4(0).to_string());
    let port = sql::text(&url, "SELECT any(src_port) FROM flow.flows WHERE dst_port = 443")?;
    question = question.replace("src_port = 40000", &format!("src_port = {}", port.trim()));
    let answer = sql::text(&url, &format!("{question} FORMAT JSON"))?;
    let answer: Value = serde_json::from_str(&answer).with_context(|| answer.clone())?;
    let list = answer["meta"].as_array().context("columns")?.iter();
    let columns: Vec<_> = list.filter_map(|column| column["name"].as_str()).collect();
    if let Some((_, documented)) = title.split_once(": ") {
        ensure!(documented == columns.join(", "), "{title}: it has {}", columns.join(", "));
    }
    // Nobody scans here.
    let numbered = title.trim_start_matches("-- ").starts_with(|c: char| c.is_ascii_digit());
    if numbered && !question.contains("scanners(") {
        ensure!(answer["rows"].as_u64() > Some(0), "no answer: {question}");
    }
    Ok(())
}

/// The same question of the time in which there are rows: times stay as far apart as they are.
fn recently(url: &str, statement: &str) -> Result<String> {
    let quoted: BTreeSet<&str> = statement.split('\'').skip(1).step_by(2).collect();
    let time = |text: &&str| text.parse::<DateTime>().ok().map(|time| ((*text).to_owned(), time));
    let times: Vec<_> = quoted.iter().filter_map(time).collect();
    let (Some((_, first)), Some((_, last))) = (times.first(), times.last()) else {
        return Ok(statement.to_owned());
    };
    let span = first.duration_until(*last).as_secs().clamp(1, 3_600);
    let query = format!(
        "SELECT toString(toStartOfInterval(max(exported_at), toIntervalSecond({span}))) FROM \
         flow.flows"
    );
    let now: DateTime = sql::text(url, &query)?.trim().parse()?;
    let shift = first.duration_until(now);
    let mut moved = statement.to_owned();
    for (text, time) in &times {
        let there = time.checked_add(shift)?.strftime("%F %T").to_string();
        moved = moved.replace(&format!("'{text}'"), &format!("'{there}'"));
    }
    Ok(moved)
}

/// The columns that docs/schema.md lists for a table are those that it has.
fn columns_are_documented() -> Result<()> {
    let (_, text) = documents()?
        .into_iter()
        .find(|(file, _)| file.ends_with("schema.md"))
        .context("docs/schema.md")?;
    let url = format!("http://{STORE}");
    for table in ["flows", "ledger", "latency", "events", "devices"] {
        let heading = format!("## `flow.{table}`\n");
        let (_, section) = text.split_once(&heading).with_context(|| heading.clone())?;
        let (section, _) = section.split_once("\n## ").unwrap_or((section, ""));
        let mut documented = BTreeSet::new();
        let names = |text: &str| -> Vec<String> {
            let names = text.split('`').skip(1).step_by(2).flat_map(|list| list.split(", "));
            names.map(str::to_owned).collect()
        };
        if let Some((_, rows)) = section.split_once("\n| column |") {
            for row in rows.lines().skip(2).take_while(|line| line.starts_with('|')) {
                documented.extend(names(row.split('|').nth(1).unwrap_or_default()));
            }
        } else {
            let list = section.split('`').nth(1).unwrap_or_default();
            documented.extend(list.split(", ").map(str::to_owned));
        }
        let query = format!(
            "SELECT name FROM system.columns WHERE database = 'flow' AND table = '{table}'"
        );
        let there: BTreeSet<_> = sql::text(&url, &query)?.lines().map(str::to_owned).collect();
        ensure!(documented == there, "flow.{table}: documented {documented:?}, there {there:?}");
    }
    Ok(())
}

/// Keeps the list of what is not run short and true.
#[test]
fn what_is_not_run_is_in_the_documents_and_tested_elsewhere() -> Result<()> {
    let typed: Vec<_> = blocks()?.iter().flat_map(Block::typed).collect();
    for (begin, instead) in ELSEWHERE {
        assert!(typed.iter().any(|typed| typed.line.starts_with(begin)), "{begin}");
        let file = instead.split_whitespace().next().unwrap_or_default();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        assert!(!file.starts_with("tests/") || root.join(file).exists(), "{file}");
    }
    Ok(())
}
