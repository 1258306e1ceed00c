//! What cannot work is refused in one sentence, with the right exit code, and leaves
//! nothing behind. Needs root and the agent's binary.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use flow_tests::bin_path::flow_agent;
use flow_tests::hooks;
use flow_tests::lab::Lab;
use flow_tests::process::Store;
use tempfile::TempDir;

/// Bad usage, configuration or input.
const USAGE: i32 = 2;
/// A missing privilege or kernel feature.
const PRIVILEGE: i32 = 3;
/// The store cannot be reached.
const STORE: i32 = 4;
/// A port where nothing listens.
const NOWHERE: &str = "http://127.0.0.1:1";

/// Runs a command that must fail with `code`, in one sentence that names `named`.
fn refused(command: &mut Command, code: i32, named: &str) -> Result<()> {
    let output = command.output().context("cannot start the command")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{command:?} said:\n{errors}");
    let sentences: Vec<&str> =
        errors.lines().filter(|line| line.starts_with("flow-agent: ")).collect();
    assert_eq!(sentences.len(), 1, "not one sentence:\n{errors}");
    assert!(sentences[0].contains(named), "{named} is not named in: {}", sentences[0]);
    assert!(!errors.contains("panicked"), "{errors}");
    Ok(())
}

fn run(arguments: &[&str]) -> Command {
    let mut command = Command::new(flow_agent());
    command.arg("run").args(arguments);
    command
}

fn nothing_left(lab: &Lab) -> Result<()> {
    for side in [&lab.left, &lab.right] {
        assert_eq!(hooks::attached(side)?, Vec::<String>::new(), "{}", side.interface);
        let name = side.namespace.name();
        for process in std::fs::read_dir("/proc")?.flatten() {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            assert!(!line.contains(name), "still running: {line}");
        }
    }
    Ok(())
}

#[test]
fn an_unknown_interface_or_namespace() -> Result<()> {
    let lab = Lab::new()?;
    let folder = TempDir::new()?;
    let log = folder.path().join("log");
    let store = Store::start(&flow_agent(), &folder.path().join("data"), &log)?;
    let good = lab.left.spec("tc");
    let bad = format!("{}/no-such-if", lab.right.namespace.name());
    let interfaces = ["--interface", &good, "--interface", &bad, "--store", store.url()];
    refused(&mut run(&interfaces), USAGE, "no-such-if")?;
    let nowhere = ["--interface", "no-such-ns/eth0", "--store", store.url()];
    refused(&mut run(&nowhere), USAGE, "no-such-ns")?;
    let mode = format!("{}/veth-left:sideways", lab.left.namespace.name());
    refused(&mut run(&["--interface", &mode, "--store", store.url()]), USAGE, "sideways")?;
    nothing_left(&lab)
}

#[test]
fn a_missing_capability() -> Result<()> {
    let lab = Lab::new()?;
    let folder = TempDir::new()?;
    let log = folder.path().join("log");
    let store = Store::start(&flow_agent(), &folder.path().join("data"), &log)?;
    let mut command = Command::new("setpriv");
    // Root by number alone: no capability survives the exec.
    command.args(["--inh-caps=-all", "--bounding-set=-all"]).arg(flow_agent()).arg("run");
    command.args(["--interface", &lab.left.spec("tc"), "--store", store.url()]);
    refused(&mut command, PRIVILEGE, "CAP_")?;
    nothing_left(&lab)
}

#[test]
fn a_store_that_cannot_be() -> Result<()> {
    let lab = Lab::new()?;
    let interface = lab.left.spec("xdp");
    for url in ["ftp://127.0.0.1", "http://", "127.0.0.1:8123x", "embedded:"] {
        refused(&mut run(&["--interface", &interface, "--store", url]), USAGE, url)?;
    }
    refused(&mut run(&["--interface", &interface, "--store", NOWHERE]), STORE, NOWHERE)?;
    nothing_left(&lab)
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

#[test]
fn a_store_without_libchdb_or_with_a_port_in_use() -> Result<()> {
    let folder = TempDir::new()?;
    let store = |listen: &str| {
        let mut command = Command::new(flow_agent());
        command.arg("store").arg("--dir").arg(folder.path().join("data"));
        command.args(["--listen", listen]);
        command
    };
    let missing = Path::new("/nonexistent/libchdb.so");
    let mut without = store("127.0.0.1:0");
    without.env("FLOW_LIBCHDB", missing);
    let output = without.output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(1..=4)), "{errors}");
    assert!(errors.contains("libchdb"), "{errors}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let output = store(&address).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(1..=4)), "{errors}");
    assert!(errors.contains(&address), "{errors}");
    Ok(())
}
