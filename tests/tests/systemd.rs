//! The units of `deploy/`: systemd finds nothing wrong with them, they expose little, and the
//! agent meters as their user, with their capabilities and their system calls only.
//!
//! systemd is not what started this machine, so the agent's unit is taken apart: setpriv gives
//! the user, capabilities and `no_new_privs`, libseccomp the filter, a mount namespace the folder
//! of pins. Needs root, the binary, libchdb, systemd-analyze and python3 (`cargo xtask setup`).

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flow_tests::bin_path::{flow_agent, flow_agent_with};
use flow_tests::lab::Lab;
use flow_tests::process::{Agent, Store};
use flow_tests::rig::{self, Rig};
use flow_tests::rows;
use flow_tests::status::Status;
use flow_tests::tally::{Flows, Key, Tally};
use flow_tests::traffic::{self, Ends};
use tempfile::TempDir;

/// A user that owns nothing here.
const USER: u32 = 61_234;
/// How it is attached, and the port of the conversations that are compared then.
const RUNS: [(&str, u16); 2] = [("xdp", 53), ("tc", 123)];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn analyze(arguments: &[&str]) -> Result<String> {
    let output = Command::new("systemd-analyze")
        .args(arguments)
        .output()
        .context("systemd-analyze cannot be run: `cargo xtask setup` installs it")?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    ensure!(output.status.success(), "systemd-analyze {arguments:?}: {}\n{text}", output.status);
    Ok(text)
}

/// The exposure that systemd finds, with its list.
fn exposure(unit: &str) -> Result<(f64, String)> {
    let path = deploy().join("systemd").join(unit).display().to_string();
    let text = analyze(&["security", "--offline=true", "--no-pager", &path])?;
    let line = text.lines().find(|line| line.contains("Overall exposure level"));
    let number = line.and_then(|line| line.rsplit(": ").next()?.split(' ').next());
    let level = number.with_context(|| format!("no level in:\n{text}"))?.parse()?;
    Ok((level, text))
}

#[test]
fn units_expose_little() -> Result<()> {
    for (unit, most) in [("flow-agent.service", 1.8), ("flow-agent-store.service", 1.5)] {
        let (level, list) = exposure(unit)?;
        ensure!(level <= most, "{unit}: {level}, above {most}:\n{list}");
    }
    Ok(())
}

/// A folder that looks as an installed system does: the units name programs of /usr/bin.
#[test]
fn units_have_no_faults() -> Result<()> {
    let folder = TempDir::with_prefix("flow-units-")?;
    for unit in ["flow-agent.service", "flow-agent-store.service"] {
        let text = fs::read_to_string(deploy().join("systemd").join(unit))?;
        let installed = text.replace("/usr/bin/flow-agent", &flow_agent().display().to_string());
        fs::write(folder.path().join(unit), installed)?;
    }
    let unit = folder.path().join("flow-agent.service").display().to_string();
    let store = folder.path().join("flow-agent-store.service").display().to_string();
    let said = analyze(&["verify", "--man=no", &unit, &store])?;
    ensure!(said.trim().is_empty(), "systemd-analyze verify says:\n{said}");
    Ok(())
}

/// A program that runs the agent as the unit does.
fn sandboxed(folder: &Path) -> Result<PathBuf> {
    let unit = deploy().join("systemd/flow-agent.service");
    let text = fs::read_to_string(&unit)?;
    let bounding = text.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let list: Vec<String> = bounding
        .context("the unit says which capabilities")?
        .split(' ')
        .map(|name| name.replace("CAP_", "+").to_lowercase())
        .collect();
    ensure!(list.len() == 3, "three capabilities: {list:?}");
    let list = format!("-all,{}", list.join(","));
    // Copies: the folders of the sources may be closed to the agent's user.
    let copy = |from: &Path, name: &str| -> Result<PathBuf> {
        let to = folder.join(name);
        fs::copy(from, &to).with_context(|| from.display().to_string())?;
        fs::set_permissions(&to, Permissions::from_mode(0o755))?;
        Ok(to)
    };
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systemd_sandbox.py");
    let python = copy(&python, "sandbox.py")?;
    let (unit, binary) = (copy(&unit, "agent.service")?, copy(&flow_agent(), "flow-agent")?);
    // Only mounts of its own namespace are made: what is there on the host stays there.
    let script = format!(
        "#!/bin/sh\nset -e\n\
         exec unshare --mount --propagation private sh -ec '\n\
         mount --bind \"$0/pins\" \"$0/hold\"\n\
         mount -t tmpfs -o mode=0755 tmpfs /sys/fs/bpf\n\
         mkdir /sys/fs/bpf/flow-agent\n\
         mount --bind \"$0/hold\" /sys/fs/bpf/flow-agent\n\
         exec setpriv --reuid={USER} --regid={USER} --clear-groups --no-new-privs \
         --bounding-set={list} --inh-caps={list} --ambient-caps={list} \
         /usr/bin/python3 {python} {unit} {agent} \"$@\"\n' {folder} \"$@\"\n",
        python = python.display(),
        unit = unit.display(),
        agent = binary.display(),
        folder = folder.display(),
    );
    let program = folder.join("agent");
    fs::write(&program, script)?;
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    Ok(program)
}

/// A folder of the BPF file system for that user, gone when it is dropped.
struct Pins(PathBuf);

impl Pins {
    fn new(folder: &Path) -> Result<Self> {
        let name = folder.file_name().context("a name")?.to_string_lossy().replace('.', "-");
        let pins = Self(Path::new("/sys/fs/bpf").join(name));
        fs::create_dir(&pins.0).context("/sys/fs/bpf must be a BPF file system")?;
        chown(&pins.0, Some(USER), Some(USER))?;
        std::os::unix::fs::symlink(&pins.0, folder.join("pins"))?;
        fs::create_dir(folder.join("hold"))?;
        Ok(pins)
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // A killed agent leaves its tables in it.
        drop(fs::remove_dir_all(&self.0));
    }
}

fn conversation(flows: Flows, port: u16) -> Flows {
    let ours = |key: &Key| [key.source_port, key.destination_port].contains(&port);
    flows.into_iter().filter(|(key, _)| ours(key)).collect()
}

#[test]
fn the_agent_meters_with_what_its_unit_leaves_it() -> Result<()> {
    let folder = TempDir::with_prefix("flow-systemd-")?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    let pins = Pins::new(folder.path())?;
    let program = sandboxed(folder.path())?;
    let state = folder.path().join("var");
    fs::create_dir(&state)?;
    chown(&state, Some(USER), Some(USER))?;
    let lab = Lab::new()?;
    let (left, right) = (&lab.left, &lab.right);
    right.namespace.enter(|| {
        let store = Store::start_for_others(folder.path(), right.v4(0))?;
        left.namespace.enter(|| {
            let url = store.url();
            let in_state = |name: &str| state.join(name).display().to_string();
            let (spool, saved) = (in_state("spool"), in_state("state"));
            let config = in_state("flow-agent.toml");
            let quarantine = in_state("quarantine");
            fs::write(&config, format!("[delivery]\nquarantine_dir = {quarantine:?}\n"))?;
            for (attach, port) in RUNS {
                let tally = Tally::start(left)?;
                let interface = format!("{}:{attach}", left.interface);
                let arguments = [
                    ["--interface", interface.as_str()],
                    ["--store", url],
                    ["--config", &config],
                    ["--pin-dir", "/sys/fs/bpf/flow-agent"],
                    ["--spool-dir", &spool],
                    ["--state-file", &saved],
                    ["--exporter", attach],
                ]
                .concat();
                let agent = Agent::start(&program, &arguments)?;
                ensure!(fs::read_dir(&pins.0)?.count() == 1, "tables are kept for the next agent");
                let status = fs::read_to_string(format!("/proc/{}/status", agent.id()))?;
                for (key, value) in [
                    ("Uid:", "61234\t61234\t61234\t61234"),
                    // One interface, by its name: nothing is needed any more.
                    ("CapEff:", "0000000000000000"),
                    ("CapPrm:", "0000000000000000"),
                    ("CapBnd:", "000000c000001000"),
                    ("NoNewPrivs:", "1"),
                    ("Seccomp:", "2"),
                ] {
                    let line = status.lines().find_map(|line| line.strip_prefix(key));
                    ensure!(line.map(str::trim) == Some(value), "{key} {line:?}");
                }
                traffic::ask(Ends::v4((left, 0), (right, 0), port), 20, 2, 40, 300)?;
                let said = agent.stop()?;
                let wire = conversation(tally.stop()?.by_key(), port);
                ensure!(!wire.is_empty(), "there was traffic");
                let refused = ["ERROR", "ermission denied", "not permitted", "CAP_"];
                // One thing is missing, and is for interfaces of other namespaces alone.
                let known = "CAP_NET_BROADCAST";
                let lines = said.lines().filter(|line| !line.contains(known));
                let bad: Vec<_> =
                    lines.filter(|line| refused.iter().any(|text| line.contains(text))).collect();
                ensure!(bad.is_empty(), "{attach}: {bad:?}\n{said}");
                ensure!(fs::read_dir(&pins.0)?.count() == 0, "no table is left behind");
                let stored = conversation(rows::flows(url, left.interface)?, port);
                let different = rows::differences(&wire, &stored);
                ensure!(different.is_empty(), "{attach}:\n{}\n{said}", different.join("\n"));
            }
            Ok(())
        })
    })
}

/// A program that starts the agent as systemd starts a service with a watchdog of so many us;
/// without a process id it is for anyone.
fn watched(folder: &TempDir, us: u32) -> Result<PathBuf> {
    flow_agent_with(folder.path(), &format!("WATCHDOG_USEC={us}"))
}

#[test]
fn a_manager_that_does_not_listen_does_not_stop_the_metering() -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let (rig, folder) = (Rig::new()?, TempDir::with_prefix("flow-watchdog-")?);
    // So many signs of life that the kernel soon has no room for them: nobody takes them out.
    let program = watched(&folder, 30_000)?;
    let more = ["--drain-interval", "50", "--status", "127.0.0.1:0"];
    let (lab, url) = (&rig.lab, rig.store.url());
    let mut agent = rig::agent_of(&program, lab, ("tc", "tc"), url, &more)?;
    let words = "the service manager cannot be told";
    agent.wait_log(words, PATIENCE)?;
    let status = Status::of(&agent)?;
    let drains = || -> Result<u64> {
        let page = status.json("/api/v1/status")?;
        page["drains"]["count"].as_u64().context("a number")
    };
    let before = drains()?;
    let counts = rig::tally(lab, |lab| {
        traffic::ask(Ends::v4((&lab.left, 0), (&lab.right, 0), 53), 20, 2, 40, 300)
    })?;
    agent.wait_until("many drains", PATIENCE, || Ok(drains()? > before + 20))?;
    ensure!(agent.log().matches(words).count() == 1, "it is said once:\n{}", agent.log());
    // Asked to read its configuration again, it says so as soon as somebody listens.
    agent.signal(rustix::process::Signal::HUP)?;
    agent.wait_log("nothing to read again", PATIENCE)?;
    for state in ["WATCHDOG=1", "RELOADING=1", "READY=1", "WATCHDOG=1"] {
        agent.wait_for(state)?;
    }
    let log = agent.stop()?;
    rig::exact(lab, url, &counts).with_context(|| log)
}

#[test]
fn the_agent_gives_signs_of_life_and_says_how_it_is() -> Result<()> {
    let lab = Lab::new()?;
    let folder = TempDir::with_prefix("flow-watchdog-")?;
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let config = folder.path().join("agent.toml");
    fs::write(&config, "")?;
    let store = Store::start(&flow_agent(), &data, &log)?;
    let program = watched(&folder, 3_000_000)?;
    let (interface, config) = (lab.left.spec("tc"), config.display().to_string());
    let arguments = ["--interface", &interface, "--store", store.url(), "--config", &config];
    let mut agent = Agent::start(&program, &[&arguments[..], &["--spool-dir", ""]].concat())?;
    // Again and again.
    for _ in 0..3 {
        agent.wait_for("WATCHDOG=1")?;
    }
    agent.signal(rustix::process::Signal::HUP)?;
    agent.wait_for("RELOADING=1")?;
    agent.wait_for("READY=1")?;
    agent.stop()?;
    Ok(())
}
