//! The configuration from outside: what `flow-agent config` prints and refuses, and what a running
//! agent does with a file that changes. Needs the agent's binary; the last ones root and libchdb.

#[path = "config/bad.rs"]
mod bad;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flow_tests::bin_path::flow_agent;
use flow_tests::faults::{self, Outcome};
use flow_tests::ledger::Ledger;
use flow_tests::rig::{self, Rig};
use flow_tests::status::{ANY_PORT, Status};
use flow_tests::traffic::{self, Ends};
use flow_tests::{hooks, lab::Lab};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// Bad usage, configuration or input.
const USAGE: i32 = 2;
const PATIENCE: Duration = Duration::from_secs(20);

fn config(arguments: &[&str]) -> Command {
    let mut command = Command::new(flow_agent());
    command.arg("config").args(arguments);
    command
}

fn stdout(output: &Output) -> Result<String> {
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout.clone())?)
}

fn json_of(toml: &str) -> Result<Value> {
    Ok(serde_json::to_value(toml::from_str::<toml::Table>(toml)?)?)
}

#[test]
fn a_hundred_bad_files_are_refused_with_line_key_and_what_is_allowed() -> Result<()> {
    let folder = TempDir::with_prefix("flow-config-")?;
    let file = folder.path().join("agent.toml");
    let path = file.display().to_string();
    let mut texts = std::collections::BTreeSet::new();
    let mut wrong = Vec::new();
    let mut last = (0, String::new());
    for (text, line, key, words) in bad::all() {
        ensure!(texts.insert(text), "twice: {text}");
        fs::write(&file, text)?;
        let output = config(&["check", &path]).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let place = format!("flow-agent: configuration {path}, line {line}: {key}");
        let clear = output.status.code() == Some(USAGE)
            && said.starts_with(&place)
            && said.contains(words)
            && said.lines().count() == 1
            && output.stdout.is_empty();
        last = (output.status.code().unwrap_or_default(), said.clone());
        if !clear {
            wrong.push(format!("{text}\n  not {words:?} at {place}:\n{said}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(texts.len() >= 100, "only {}", texts.len());
    let proof = format!("{} files, each refused with its line and key", texts.len());
    faults::record("hundred_bad_files", &proof, Outcome::refused(last.0, &last.1)?)
}

#[test]
fn bad_files_let_run_attach_nothing() -> Result<()> {
    let (lab, folder) = (Lab::new()?, TempDir::with_prefix("flow-config-")?);
    let file = folder.path().join("agent.toml");
    let (path, data) = (file.display().to_string(), folder.path().join("data"));
    let store = format!("embedded:{}", data.display());
    let sample = bad::MEANING.iter().step_by(5).chain(bad::SHAPE.iter().step_by(6));
    let sample = sample.chain(bad::SYNTAX.iter().step_by(4));
    // What the command line says is not looked at in the file, and files that are named are
    // looked at by the check alone.
    let elsewhere =
        ["interfaces = ", "store = ", "pin_dir", "\ndir = ", "\nfile = ", "listen", "/no/such"];
    let sample = sample.filter(|(text, ..)| !elsewhere.iter().any(|words| text.contains(words)));
    let mut count = 0;
    for (text, line, ..) in sample {
        fs::write(&file, text)?;
        // An agent that is content runs for ever.
        let mut run = Command::new("timeout");
        run.arg("20").arg(flow_agent());
        run.args([
            "run",
            "--config",
            &path,
            "--interface",
            &lab.left.spec("tc"),
            "--store",
            &store,
        ]);
        run.args(["--pin-dir", "", "--state-file", "", "--spool-dir", "", "--status", ""]);
        let output = run.output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        count += 1;
        ensure!(output.status.code() == Some(USAGE), "{text}\n{said}");
        ensure!(said.contains(&format!("line {line}: ")), "{text}\n{said}");
        ensure!(hooks::attached(&lab.left)?.is_empty(), "{text}: attached");
        ensure!(!data.exists(), "{text}: a store was begun");
    }
    ensure!(count >= 20, "only {count}");
    Ok(())
}

#[test]
fn everything_that_is_wrong_is_told_at_once_in_the_order_of_the_lines() -> Result<()> {
    let folder = TempDir::with_prefix("flow-config-")?;
    let file = folder.path().join("agent.toml");
    fs::write(
        &file,
        "max_flow = 5\nshards = 0\n[cache]\npolicy = 1\nttl_s = 0\n[filter]\n\
         include = ['10.0.0.1/8']\nexclude_ports = [70000]\n[sampling]\nmode = 'flow'\nrate = 0\n",
    )?;
    let output = config(&["check", &file.display().to_string()]).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<_> = said.lines().collect();
    let expected = [
        (1, "max_flow is no key; did you mean max_flows?"),
        (2, "shards is 0; it must be 1 to 1024"),
        (4, "cache.policy is a whole number; it must be a text"),
        (5, "cache.ttl_s is 0; it must be 1 to 86400"),
        (7, "filter.include: \"10.0.0.1/8\""),
        (8, "filter.exclude_ports: \"70000\" is no port"),
        (11, "sampling.rate is 0; it must be 1 to 1048576"),
    ];
    assert_eq!(output.status.code(), Some(USAGE));
    assert_eq!(lines.len(), expected.len() + 1, "{said}");
    assert_eq!(lines[0], "flow-agent: 7 problems:");
    for ((line, words), said) in expected.iter().zip(&lines[1..]) {
        assert!(said.contains(&format!("agent.toml, line {line}: {words}")), "{said}");
    }
    Ok(())
}

#[test]
fn the_schema_takes_the_default_file_and_refuses_what_has_a_wrong_shape() -> Result<()> {
    let schema: Value = serde_json::from_str(&stdout(&config(&["schema"]).output()?)?)?;
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(jsonschema::draft202012::meta::is_valid(&schema), "it is no schema");
    let validator = jsonschema::draft202012::new(&schema)?;
    let text = stdout(&config(&["print"]).output()?)?;
    assert!(validator.is_valid(&json_of(&text)?), "the default file");
    // Every key is in it; taken in, all of them are valid.
    let taken_in = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    let all = json_of(&text.lines().map(taken_in).collect::<String>())?;
    let problems: Vec<_> = validator.iter_errors(&all).map(|e| e.to_string()).collect();
    assert!(problems.is_empty(), "{problems:?}");
    for (key, about) in schema["properties"].as_object().context("keys")? {
        ensure!(all.get(key).is_some(), "{key} is not printed");
        ensure!(about["description"].as_str().is_some_and(|text| text.len() > 10), "{key}");
    }
    for (text, _, key, _) in bad::SHAPE {
        ensure!(!validator.is_valid(&json_of(text)?), "{key}: the schema takes {text}");
    }
    Ok(())
}

#[test]
fn the_origin_of_every_value_is_told_and_the_later_wins() -> Result<()> {
    let folder = TempDir::with_prefix("flow-config-")?;
    let file = folder.path().join("agent.toml");
    let path = file.display().to_string();
    fs::write(
        &file,
        "profile = 'small'\nidle_timeout_s = 7\nactive_timeout_s = 8\nexporter = 'file'\n\
         store = 'http://flows:secret@127.0.0.1:8123'\n",
    )?;
    let output = config(&["print", "--effective", "--config", &path, "--active-timeout", "9"])
        .env("FLOW_AGENT__EXPORTER", "from-env")
        .env("FLOW_AGENT__ACTIVE_TIMEOUT_S", "10")
        .env("FLOW_AGENT__FILTER__EXCLUDE_PORTS", "22, 8000-8010")
        .env("FLOW_AGENT__SPOOL__MEMORY_MIB", "17")
        .output()?;
    let text = stdout(&output)?;
    let line = |key: &str| {
        let found = text.lines().find(|line| line.starts_with(&format!("{key} = ")));
        let found = found.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        found.unwrap_or_else(|| panic!("no {key}:\n{text}"))
    };
    assert_eq!(line("drain_interval_ms"), "drain_interval_ms = 1000 # default");
    assert_eq!(line("max_flows"), "max_flows = 50000 # profile small");
    assert_eq!(line("idle_timeout_s"), format!("idle_timeout_s = 7 # {path}:2"));
    assert_eq!(line("active_timeout_s"), "active_timeout_s = 9 # --active-timeout");
    let variable = "environment variable FLOW_AGENT__";
    assert_eq!(line("exporter"), format!("exporter = \"from-env\" # {variable}EXPORTER"));
    assert_eq!(line("memory_mib"), format!("memory_mib = 17 # {variable}SPOOL__MEMORY_MIB"));
    assert!(line("exclude_ports").contains("[\"22\", \"8000-8010\"]"));
    assert!(line("store").contains("flows:***@127.0.0.1"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    // What is printed is a configuration again, and says the same.
    let again = folder.path().join("again.toml");
    fs::write(&again, &text)?;
    stdout(&config(&["check", &again.display().to_string()]).output()?)?;
    Ok(())
}

#[test]
fn bad_variables_are_refused_by_name() -> Result<()> {
    for (name, value, words) in [
        ("FLOW_AGENT__CACHE__MAX_FLOW", "5", "did you mean FLOW_AGENT__CACHE__MAX_FLOWS?"),
        ("FLOW_AGENT__SHARD", "5", "did you mean FLOW_AGENT__SHARDS?"),
        ("FLOW_AGENT__XYZZY__QQQ", "5", "is no key; the keys are FLOW_AGENT__KEY and"),
        ("FLOW_AGENT__SHARDS", "two", "is a text; it must be a whole number"),
        ("FLOW_AGENT__SHARDS", "0", "is 0; it must be 1 to 1024"),
        ("FLOW_AGENT__DECAPSULATE", "yes", "is a text; it must be true or false"),
        ("FLOW_AGENT__INTERFACES", "[\"eth0\"", "is no value as in the file"),
        ("FLOW_AGENT__FILTER__INCLUDE", "10.0.0.1/8", "write \"10.0.0.0/8\""),
        ("FLOW_AGENT__PROFILE", "tiny", "it must be small or default or large or debug"),
    ] {
        let output = config(&["print", "--effective"]).env(name, value).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(USAGE), "{name}={value}: {said}");
        ensure!(said.contains(&format!("environment variable {name}")), "{said}");
        ensure!(said.contains(words), "{name}={value}: {said}");
    }
    Ok(())
}

#[test]
fn a_changed_file_is_followed_without_losing_a_packet() -> Result<()> {
    let (rig, folder) = (Rig::new()?, TempDir::with_prefix("flow-config-")?);
    let at = |name: &str| folder.path().join(name);
    for version in ["one", "two"] {
        fs::create_dir(at(version))?;
    }
    fs::write(at("one/agent.toml"), "")?;
    fs::write(at("two/agent.toml"), "[filter]\nexclude_ports = [516]\n")?;
    symlink("one", at("data"))?;
    let path = at("data/agent.toml").display().to_string();
    let agent = rig.agent_with(
        ("tc", "tc"),
        &[&ANY_PORT[..], &["--config", &path, "--drain-interval", "100"]].concat(),
    )?;
    let status = Status::of(&agent)?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let counts = rig::tally(&rig.lab, |_| {
        let mut sent = traffic::stream(Ends::v4((right, 1), (left, 1), 514), 200, 900)?;
        // As editors do it.
        fs::write(at("new"), "shards = 7\n[filter]\nexclude_ports = [514]\n")?;
        fs::rename(at("new"), at("one/agent.toml"))?;
        agent.wait_times("are in force\n", 1, PATIENCE)?;
        sent.add(traffic::stream(Ends::v4((right, 1), (left, 1), 514), 200, 900)?);
        let page = status.json("/api/v1/config")?;
        let ports = &page["keys"]["filter.exclude_ports"];
        assert_eq!(ports["value"], serde_json::json!([514]), "{page:#}");
        assert_eq!(ports["origin"], format!("{path}:3"));
        assert_ne!(page["keys"]["shards"]["value"], 7, "only at a restart");
        assert_eq!(page["needs_restart"], serde_json::json!(["shards"]));
        assert_eq!(page["keys"]["store"]["origin"], "--store");
        // A bad file, in place: nothing changes.
        fs::write(at("one/agent.toml"), "shard = 7\n[filter]\nexclude_ports = [0xfffff]\n")?;
        agent.wait_log("did you mean shards?", PATIENCE)?;
        agent.wait_log("\"1048575\" is no port", PATIENCE)?;
        let page = status.json("/api/v1/status")?;
        assert_eq!(page["config"]["refused"].as_array().map(Vec::len), Some(2), "{page:#}");
        assert_eq!(page["config"]["needs_restart"], serde_json::json!(["shards"]));
        // As Kubernetes does it.
        symlink("two", at("swap"))?;
        fs::rename(at("swap"), at("data"))?;
        agent.wait_times("are in force\n", 2, PATIENCE)?;
        sent.add(traffic::stream(Ends::v4((right, 1), (left, 1), 514), 200, 900)?);
        sent.add(traffic::stream(Ends::v4((right, 1), (left, 1), 516), 200, 900)?);
        let page = status.json("/api/v1/status")?;
        assert_eq!(page["config"]["refused"], serde_json::json!([]));
        assert_eq!(page["config"]["needs_restart"], serde_json::json!([]), "as at the start");
        Ok(sent)
    })?;
    let log = agent.stop()?;
    for (side, counts) in [(left, &counts.0), (right, &counts.1)] {
        let ledger = Ledger::read(rig.store.url(), side.interface)?;
        assert_eq!(ledger.seen, counts.total, "{log}");
        assert_eq!((ledger.unaccounted(), ledger.in_flight()), ((0, 0), (0, 0)), "{ledger:?}");
        assert_eq!(ledger.lost.packets, 0);
        assert!(Ledger::not_metered(rig.store.url(), side.interface, "filtered")?.packets > 0);
    }
    Ok(())
}

#[test]
fn a_file_that_is_not_watched_is_read_at_a_hangup_only_and_warned_of_secrets_are_hidden()
-> Result<()> {
    let (rig, folder) = (Rig::new()?, TempDir::with_prefix("flow-config-")?);
    let path = folder.path().join("agent.toml");
    fs::write(&path, "reload_on_change = false\n")?;
    let file = path.display().to_string();
    let address = rig.store.url().trim_start_matches("http://");
    let store = format!("http://default:@{address}");
    let more = [&ANY_PORT[..], &["--config", &file]].concat();
    let agent = rig::agent(&rig.lab, ("tc", "tc"), &store, &more)?;
    let status = Status::of(&agent)?;
    fs::write(&path, "reload_on_change = false\n[filter]\nexclude_ports = [514]\n")?;
    // A watched file would be followed after two looks, one a second.
    let looked = std::time::Instant::now();
    agent.wait_until("three seconds", PATIENCE, || Ok(looked.elapsed().as_secs() >= 3))?;
    assert!(!agent.log().contains("was read again"), "{}", agent.log());
    agent.signal(Signal::HUP)?;
    agent.wait_log("SIGHUP: ", PATIENCE)?;
    agent.wait_log("filters and sampling are others", PATIENCE)?;
    let page = status.get("/api/v1/config")?.text();
    assert!(page.contains("default:***@") && !page.contains("default:@"), "{page}");
    agent.stop()?;
    Ok(())
}
