//! What cannot work is refused in one sentence, with the right exit code, and leaves
//! nothing behind. Needs root and the agent's binary.

use std::process::Command;

use anyhow::{Context, Result};
use flow_tests::bin_path::flow_agent;
use flow_tests::faults::{self, Outcome};
use flow_tests::hooks;
use flow_tests::lab::Lab;
use flow_tests::process::naming;
use flow_tests::rig;
use tempfile::TempDir;

/// The work was tried and failed.
const FAILED: i32 = 1;
/// Bad usage, configuration or input.
const USAGE: i32 = 2;
/// A missing privilege or kernel feature.
const PRIVILEGE: i32 = 3;
/// The store cannot be reached.
const STORE: i32 = 4;
/// A port where nothing listens.
const NOWHERE: &str = "http://127.0.0.1:1";

/// Runs a command that must fail with `code`, in one sentence that names `named`.
fn refused(command: &mut Command, code: i32, named: &str) -> Result<Outcome> {
    let output = command.output().context("cannot start the command")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{command:?} said:\n{errors}");
    let sentences: Vec<&str> =
        errors.lines().filter(|line| line.starts_with("flow-agent: ")).collect();
    assert_eq!(sentences.len(), 1, "not one sentence:\n{errors}");
    assert!(sentences[0].contains(named), "{named} is not named in: {}", sentences[0]);
    assert!(!errors.contains("panicked"), "{errors}");
    Outcome::refused(code, &errors)
}

fn run(arguments: &[&str]) -> Command {
    let mut command = Command::new(flow_agent());
    command.arg("run").args(arguments);
    command
}

/// A lab and a folder for a store, neither of which a refused agent may hold on to.
struct Place {
    lab: Lab,
    folder: TempDir,
}

impl Place {
    fn new() -> Result<Self> {
        Ok(Self { lab: Lab::new()?, folder: TempDir::with_prefix("flow-refused-")? })
    }

    /// The embedded store in the folder, as the agent names it.
    fn store(&self) -> String {
        format!("embedded:{}", self.folder.path().join("data").display())
    }

    fn nothing_left(&self) -> Result<()> {
        for side in [&self.lab.left, &self.lab.right] {
            assert_eq!(hooks::attached(side)?, Vec::<String>::new(), "{}", side.interface);
            let running = naming(side.namespace.name())?;
            assert_eq!(running, Vec::<String>::new(), "still running");
        }
        // The store's process knows of the folder only.
        let running = naming(&self.folder.path().display().to_string())?;
        assert_eq!(running, Vec::<String>::new(), "still running");
        Ok(())
    }
}

#[test]
fn an_unknown_interface_or_namespace() -> Result<()> {
    let place = Place::new()?;
    let (lab, store) = (&place.lab, place.store());
    let good = lab.left.spec("tc");
    let bad = format!("{}/no-such-if", lab.right.namespace.name());
    let interfaces = ["--interface", &good, "--interface", &bad, "--store", &store];
    refused(&mut run(&interfaces), USAGE, "no-such-if")?;
    let nowhere = ["--interface", "no-such-ns/eth0", "--store", &store];
    refused(&mut run(&nowhere), USAGE, "no-such-ns")?;
    let mode = format!("{}/veth-left:sideways", lab.left.namespace.name());
    refused(&mut run(&["--interface", &mode, "--store", &store]), USAGE, "sideways")?;
    place.nothing_left()
}

#[test]
fn an_interface_that_cannot_be_attached_so() -> Result<()> {
    let place = Place::new()?;
    let (good, store) = (place.lab.right.spec("tc"), place.store());
    // The store is running by the time the kernel refuses this, and one end is attached.
    let bad = format!("{}/lo:xdp", place.lab.left.namespace.name());
    let interfaces = ["--interface", &good, "--interface", &bad, "--store", &store];
    refused(&mut run(&interfaces), FAILED, "/lo")?;
    place.nothing_left()
}

#[test]
fn a_second_agent_on_one_interface() -> Result<()> {
    let place = Place::new()?;
    let lab = &place.lab;
    let first = format!("embedded:{}", place.folder.path().join("first").display());
    let agent = rig::agent(lab, ("xdp", "tc"), &first, &[])?;
    let attached = || anyhow::Ok([hooks::attached(&lab.left)?, hooks::attached(&lab.right)?]);
    let (before, store) = (attached()?, place.store());
    let mut outcome = Outcome::default();
    for (side, mode) in [(&lab.left, "xdp"), (&lab.left, "tc"), (&lab.right, "tc")] {
        let mut second = run(&["--interface", &side.spec(mode), "--store", &store]);
        outcome = refused(&mut second, FAILED, side.interface)?;
        assert_eq!(attached()?, before);
    }
    agent.stop()?;
    place.nothing_left()?;
    faults::record("second_agent", "the first agent's programs are as before", outcome)
}

#[test]
fn a_missing_capability() -> Result<()> {
    let place = Place::new()?;
    let mut command = Command::new("setpriv");
    // Root by number alone: no capability survives the exec.
    command.args(["--inh-caps=-all", "--bounding-set=-all"]).arg(flow_agent()).arg("run");
    command.args(["--interface", &place.lab.left.spec("tc"), "--store", &place.store()]);
    let outcome = refused(&mut command, PRIVILEGE, "CAP_")?;
    place.nothing_left()?;
    faults::record("no_capability", "nothing is attached, nothing runs", outcome)
}

#[test]
fn a_store_that_cannot_be() -> Result<()> {
    let place = Place::new()?;
    let interface = place.lab.left.spec("xdp");
    for url in ["ftp://127.0.0.1", "http://", "127.0.0.1:8123x", "embedded:"] {
        refused(&mut run(&["--interface", &interface, "--store", url]), USAGE, url)?;
    }
    let away = ["--interface", &interface, "--store", NOWHERE, "--spool-dir", ""];
    refused(&mut run(&away), STORE, NOWHERE)?;
    place.nothing_left()
}

#[test]
fn an_embedded_store_without_libchdb() -> Result<()> {
    let place = Place::new()?;
    let mut command = run(&["--interface", &place.lab.left.spec("tc"), "--store", &place.store()]);
    command.env("FLOW_LIBCHDB", "/nowhere/libchdb.so");
    let outcome = refused(&mut command, USAGE, "/nowhere/libchdb.so")?;
    place.nothing_left()?;
    faults::record("libchdb_missing", "nothing is attached, nothing runs", outcome)
}

#[test]
fn a_configuration_file_that_cannot_be_read() -> Result<()> {
    let folder = TempDir::new()?;
    let missing = folder.path().join("missing.toml");
    let missing = missing.to_str().context("a path in UTF-8")?;
    refused(&mut run(&["--config", missing]), USAGE, "missing.toml")?;
    let wrong = folder.path().join("wrong.toml");
    std::fs::write(&wrong, "no_such_key = 1\n")?;
    refused(&mut run(&["--config", wrong.to_str().context("UTF-8")?]), USAGE, "no_such_key")?;
    Ok(())
}
