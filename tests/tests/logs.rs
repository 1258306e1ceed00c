//! What the agent says of itself: forms, levels, repeats, the journal. Needs the agent's binary and
//! root; the last ones libchdb.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flow_tests::bin_path::flow_agent;
use flow_tests::rig::Rig;
use flow_tests::status::{ANY_PORT, Status};
use flow_tests::tally::PacketSocket;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);
/// Says a warning, and then ends because there is no such interface.
const WARNING: &str = "the idle timeout (9 s) is longer than the active timeout (8 s)";

/// An agent with this section `log`, which warns and ends; returns its standard error.
fn warns(log: &str, variables: &[(&str, &str)]) -> Result<String> {
    let folder = TempDir::with_prefix("flow-logs-")?;
    let file = folder.path().join("agent.toml");
    fs::write(&file, format!("idle_timeout_s = 9\nactive_timeout_s = 8\n[log]\n{log}\n"))?;
    let mut command = Command::new(flow_agent());
    command.arg("run").arg("--config").arg(&file).args(["--interface", "no-such-0"]);
    command.env_remove("RUST_LOG").envs(variables.iter().copied());
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(2), "{said}");
    Ok(said)
}

#[test]
fn lines_are_text_or_objects() -> Result<()> {
    for log in ["", "format = 'auto'", "format = 'text'"] {
        let said = warns(log, &[])?;
        let line = said.lines().find(|line| line.contains(WARNING)).context(said.clone())?;
        assert!(line.contains(" WARN "), "{line}");
    }
    let said = warns("format = 'json'", &[])?;
    let line = said.lines().find(|line| line.contains(WARNING)).context(said.clone())?;
    let event: Value = serde_json::from_str(line)?;
    assert_eq!(event["level"], "WARN");
    assert!(event["message"].as_str().is_some_and(|text| text.starts_with(WARNING)), "{event}");
    assert_eq!(event["target"], "flow_agent::run");
    assert!(event["timestamp"].as_str().is_some_and(|text| text.ends_with('Z')), "{event}");
    Ok(())
}

#[test]
fn levels_are_by_module_and_the_environment_wins() -> Result<()> {
    for (log, variables, says) in [
        ("level = 'error'", &[][..], false),
        ("level = 'off'", &[], false),
        ("level = 'error,flow_agent::run=warn'", &[], true),
        ("level = 'info,flow_agent::run=error'", &[], false),
        ("level = 'error'", &[("RUST_LOG", "info")], true),
        ("level = 'info'", &[("FLOW_AGENT__LOG__LEVEL", "error")], false),
        ("level = 'info'", &[("FLOW_AGENT__LOG__LEVEL", "info"), ("RUST_LOG", "error")], false),
    ] {
        let said = warns(log, variables)?;
        ensure!(said.contains(WARNING) == says, "{log} {variables:?}:\n{said}");
        // What a command ends with is no log.
        ensure!(said.contains("flow-agent: there is no interface"), "{said}");
    }
    let said = warns("", &[("RUST_LOG", "lowd")])?;
    assert!(said.contains("RUST_LOG is ignored") && said.contains(WARNING), "{said}");
    Ok(())
}

#[test]
fn without_a_journal_its_form_is_refused_and_auto_is_text() -> Result<()> {
    let said =
        in_private_run("unshare -m sh -c 'mount -t tmpfs none /run; exec \"$@\"' sh", "journald")?;
    assert!(
        said.1.contains("log.format is journald, but the journal cannot be reached"),
        "{said:?}"
    );
    assert_eq!(said.0, Some(2));
    Ok(())
}

/// Runs an agent that warns and ends behind this command, in the form asked for.
fn in_private_run(prefix: &str, format: &str) -> Result<(Option<i32>, String)> {
    let folder = TempDir::with_prefix("flow-logs-")?;
    let (file, stderr) = (folder.path().join("agent.toml"), folder.path().join("stderr"));
    let text = "idle_timeout_s = 9\nactive_timeout_s = 8\n[log]\nformat = ";
    fs::write(&file, format!("{text}{format:?}\n"))?;
    let errors = File::create(&stderr)?;
    let about = errors.metadata()?;
    let script = format!(
        "exec {prefix} {} run --config {} --interface no-such-0",
        flow_agent().display(),
        file.display()
    );
    let status = Command::new("sh")
        .args(["-c", &script])
        .env_remove("RUST_LOG")
        .env("JOURNAL_STREAM", format!("{}:{}", about.dev(), about.ino()))
        .stderr(errors)
        .status()?;
    Ok((status.code(), fs::read_to_string(stderr)?))
}

#[test]
fn the_journal_gets_fields() -> Result<()> {
    for format in ["auto", "journald"] {
        let folder = TempDir::with_prefix("flow-journal-")?;
        let journal = UnixDatagram::bind(folder.path().join("socket"))?;
        journal.set_read_timeout(Some(PATIENCE))?;
        // A journal of this test's own, which nothing else sees.
        let private = format!(
            "unshare -m sh -c 'mount -t tmpfs none /run && mkdir -p /run/systemd/journal && \
             mount --bind {} /run/systemd/journal && exec \"$@\"' sh",
            folder.path().display()
        );
        let (code, said) = in_private_run(&private, format)?;
        assert_eq!(code, Some(2), "{said}");
        assert!(!said.contains(WARNING), "it went to the journal: {said}");
        let mut datagram = [0; 4096];
        let length = loop {
            // An empty one is a look whether somebody is there.
            match journal.recv(&mut datagram)? {
                0 => {}
                length => break length,
            }
        };
        let entry = String::from_utf8_lossy(&datagram[..length]).into_owned();
        // A name, the length of the value, the value.
        let warning = "PRIORITY\n\u{1}\0\0\0\0\0\0\0\u{34}\n";
        for field in [warning, "SYSLOG_IDENTIFIER\n", "flow-agent\n", "flow_agent::run", WARNING] {
            assert!(entry.contains(field), "{format}: no {field}: {entry:?}");
        }
    }
    Ok(())
}

#[test]
fn repeats_are_counted_and_told_and_the_log_changes_at_a_reload() -> Result<()> {
    let (rig, folder) = (Rig::new()?, TempDir::with_prefix("flow-logs-")?);
    let path = folder.path().join("agent.toml");
    let file = path.display().to_string();
    let limits = "repeat_limit = 3\nrepeat_interval_s = 3600\n";
    fs::write(&path, format!("reload_on_change = false\n[log]\n{limits}"))?;
    let mut agent =
        rig.agent_with(("tc", "tc"), &[&ANY_PORT[..], &["--config", &file]].concat())?;
    let status = Status::of(&agent)?;
    let page = || -> Result<Value> { Ok(status.json("/api/v1/status")?["config"].clone()) };
    fs::write(&path, "shards = 0\n")?;
    for _ in 0..10 {
        agent.signal(Signal::HUP)?;
        agent.wait_for("READY=1")?;
    }
    // The level and the form change at once.
    let other = "level = 'debug'\nformat = 'json'\n";
    fs::write(&path, format!("reload_on_change = false\n[log]\n{other}{limits}"))?;
    agent.signal(Signal::HUP)?;
    agent.wait_for("READY=1")?;
    assert_eq!((page()?["refusals"].as_u64(), page()?["reloads"].as_u64()), (Some(10), Some(1)));
    let config = status.json("/api/v1/config")?;
    assert_eq!(config["keys"]["log.level"]["value"], "debug");
    assert_eq!(config["needs_restart"], serde_json::json!([]));
    let log = agent.stop()?;
    let message = "shards is 0; it must be 1 to 1024; everything stays as it was";
    let (told, said): (Vec<_>, Vec<_>) = log
        .lines()
        .filter(|line| line.contains(message))
        .partition(|line| line.contains("more within"));
    assert_eq!(said.len(), 3, "{log}");
    assert_eq!(told.len(), 1, "{log}");
    assert!(told[0].contains("7 times more within 3600 s: "), "{}", told[0]);
    // From the reload on every line is an object, and there are some of the level debug.
    let objects = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let levels: Vec<_> = objects.map(|event| event["level"].clone()).collect();
    assert!(levels.iter().any(|level| level == "DEBUG"), "{log}");
    let last = log.lines().next_back().context("a log")?;
    assert!(last.starts_with('{'), "{last}");
    Ok(())
}

/// The programs in the kernel speak at the level `debug` alone, and only when it is asked for.
#[test]
fn lines_of_the_kernel_side_come_with_their_level() -> Result<()> {
    const WORDS: &str = "packets of unknown ethertype in this interval";
    let (rig, folder) = (Rig::new()?, TempDir::with_prefix("flow-logs-")?);
    let file = folder.path().join("agent.toml");
    let config = file.to_str().context("a path in UTF-8")?;
    // No ethertype of anything: for local experiments.
    let frame = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1], &[0x88, 0xb5], &[0; 50]].concat();
    for (level, says) in [("debug", true), ("info", false)] {
        fs::write(&file, format!("[log]\nformat = 'json'\nlevel = '{level}'\n"))?;
        let arguments = [&ANY_PORT[..], &["--config", config, "--drain-interval", "100"]].concat();
        let agent = rig.agent_with(("tc", "tc"), &arguments)?;
        let status = Status::of(&agent)?;
        rig.lab
            .left
            .namespace
            .enter(|| Ok(PacketSocket::open(rig.lab.left.interface)?.send(&frame)?))?;
        // Sent at one end, received at the other.
        agent.wait_until("both ends have seen it", PATIENCE, || {
            let ledger = status.json("/api/v1/ledger")?;
            Ok(ledger["total"]["not_metered"]["other"]["packets"].as_u64() == Some(2))
        })?;
        if says {
            agent.wait_log(WORDS, PATIENCE)?;
        }
        let log = agent.stop()?;
        let lines = log.lines().filter(|line| line.contains(WORDS));
        let events: Vec<Value> = lines.map(serde_json::from_str).collect::<Result<_, _>>()?;
        assert_eq!(events.len(), if says { 2 } else { 0 }, "{log}");
        assert!(events.iter().all(|event| event["level"] == "DEBUG"), "{events:?}");
    }
    Ok(())
}
