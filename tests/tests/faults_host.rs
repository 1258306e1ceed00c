//! A host that lacks something, and a clock that is set: the agent says in one line what is
//! missing, or goes on without it and counts every packet. Needs root, the agent's binary,
//! libchdb and libfaketime.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flow_tests::bin_path::flow_agent;
use flow_tests::faketime;
use flow_tests::faults::{self, Outcome};
use flow_tests::faulty::{Faulty, PATIENCE};
use flow_tests::hooks;
use flow_tests::lab::Lab;
use flow_tests::status::Status;
use flow_tests::{sql, traffic};
use rustix::process::Signal;
use tempfile::TempDir;
use traffic::Ends;

const FLOWS: u64 = 100;
/// A missing privilege or kernel feature.
const PRIVILEGE: i32 = 3;

/// Each of the three, without the one that stands for many.
#[test]
fn each_capability_that_is_missing_is_named() -> Result<()> {
    let lab = Lab::new()?;
    let folder = TempDir::new()?;
    let store = format!("embedded:{}", folder.path().join("data").display());
    let cases =
        [("no_cap_bpf", "bpf"), ("no_cap_net_admin", "net_admin"), ("no_cap_perfmon", "perfmon")];
    for (name, capability) in cases {
        let run = || {
            let mut command = Command::new("setpriv");
            let without = format!("--bounding-set=-{capability},-sys_admin");
            command.args([&without, "--inh-caps=-all"]).arg(flow_agent()).arg("run");
            // Another namespace could not be joined.
            command.args(["--interface", lab.left.interface, "--store", &store]);
            command.args(["--pin-dir", "", "--state-file", "", "--spool-dir", ""]);
            command.output().context("setpriv starts")
        };
        let output = lab.left.namespace.enter(run)?;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(PRIVILEGE), "{capability}: {errors}");
        let named = format!("CAP_{}", capability.to_uppercase());
        let outcome = Outcome::refused(PRIVILEGE, &errors)?;
        ensure!(errors.contains(&named), "{named} is not named: {errors}");
        assert_eq!(hooks::attached(&lab.left)?, Vec::<String>::new());
        faults::record(name, "nothing is attached", outcome)?;
    }
    Ok(())
}

/// What is missing, and the command that takes it away for the agent alone.
struct Lack {
    name: &'static str,
    words: &'static [&'static str],
    more: &'static [&'static str],
    /// Proves that it is missing, of the running agent.
    proof: fn(u32, &str) -> Result<String>,
}

const LACKS: [Lack; 3] = [
    Lack {
        name: "no_btf",
        words: &[
            "unshare",
            "--mount",
            "sh",
            "-c",
            "mount -t tmpfs none /sys/kernel/btf && exec \"$@\"",
            "sh",
        ],
        more: &[],
        proof: |pid, _| {
            let seen = PathBuf::from(format!("/proc/{pid}/root/sys/kernel/btf/vmlinux"));
            ensure!(!seen.exists(), "it is there");
            Ok("the agent has no /sys/kernel/btf/vmlinux".into())
        },
    },
    Lack {
        name: "no_memlock",
        words: &["prlimit", "--memlock=0:0"],
        more: &[],
        proof: |pid, _| {
            let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
            let line = limits.lines().find(|line| line.starts_with("Max locked memory"));
            let words: Vec<&str> = line.context("a limit")?.split_whitespace().collect();
            ensure!(words[3] == "0" && words[4] == "0", "{words:?}");
            Ok("/proc/PID/limits: Max locked memory 0".into())
        },
    },
    Lack {
        name: "no_bpffs",
        words: &[
            "unshare",
            "--mount",
            "sh",
            "-c",
            "mount -t tmpfs none /sys/fs/bpf && exec \"$@\"",
            "sh",
        ],
        more: &["--pin-dir", "/sys/fs/bpf/flow-test-faults"],
        proof: |_, log| {
            let words = "it is no BPF file system; run `mount -t bpf bpf /sys/fs/bpf`";
            ensure!(log.contains(words), "it says nothing: {log}");
            Ok(format!("the log: {words}"))
        },
    },
];

/// What it can do without, it does without.
#[test]
fn an_agent_without_btf_memlock_or_bpffs_is_exact() -> Result<()> {
    for lack in faults::chosen(&LACKS, 1) {
        let mut faulty = Faulty::new()?;
        let agent = faulty.agent_after(lack.words, "", lack.more)?;
        faulty.talk(FLOWS, 2)?;
        let proof = (lack.proof)(agent.id(), &agent.log()).context(lack.name)?;
        faulty.settle(agent)?;
        faulty.happened(lack.name, &proof)?;
    }
    Ok(())
}

/// Counts are the kernel's; only the times in rows follow the clock.
#[test]
fn a_clock_that_is_set_changes_times_and_no_counts() -> Result<()> {
    const HOUR: i64 = 3_600;
    let cases = [("clock_set_forward", HOUR), ("clock_set_back", -HOUR)];
    for &(name, seconds) in faults::chosen(&cases, 1) {
        let mut faulty = Faulty::new()?;
        let file = faulty.folder.path().join("clock");
        fs::write(&file, "+0\n")?;
        let words = faketime::clocked(&file)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let agent = faulty.agent_after(&words, "", &[])?;
        faulty.talk(FLOWS, 2)?;
        faulty.wait_acknowledged(&agent, PATIENCE)?;
        fs::write(&file, format!("{seconds:+}\n"))?;
        faulty.talk(FLOWS, 2)?;
        faulty.settle(agent)?;
        // Rows of before, and rows that are an hour from them.
        let url = faulty.store.url();
        let shifted = format!(
            "SELECT count() FROM flow.flows WHERE \
             abs(dateDiff('second', now(), toDateTime(flow_end)) - ({seconds})) < 600"
        );
        let shifted = sql::number(url, &shifted)?;
        ensure!(shifted >= FLOWS, "{name}: {shifted} rows have the new time");
        let reversed = "SELECT count() FROM flow.flows WHERE flow_end < flow_start";
        ensure!(sql::number(url, reversed)? == 0, "{name}: flows end before they start");
        faulty.happened(name, &format!("{shifted} rows are of the new time"))?;
    }
    Ok(())
}

/// As in a suspend, everything in the agent stands still, and packets come.
#[test]
fn an_agent_that_stands_still_for_a_while_has_every_packet() -> Result<()> {
    const STILL: Duration = Duration::from_secs(2);
    let mut faulty = Faulty::new()?;
    let agent = faulty.agent("")?;
    let status = Status::of(&agent)?;
    agent.signal(Signal::STOP)?;
    let (_sender, never) = std::sync::mpsc::channel::<()>();
    faulty.count(|lab| {
        let ends = Ends::v4((&lab.left, 0), (&lab.right, 0), 53);
        traffic::ask_together(ends, FLOWS, 2, 40, 200)?;
        let _ = never.recv_timeout(STILL);
        traffic::ask_together(ends, FLOWS, 2, 40, 200).map(drop)
    })?;
    let state = fs::read_to_string(format!("/proc/{}/status", agent.id()))?;
    ensure!(state.contains("State:\tT"), "it is not stopped: {state}");
    agent.signal(Signal::CONT)?;
    ensure!(status.json("/api/v1/ledger")?.is_object(), "it answers again");
    faulty.settle(agent)?;
    faulty.happened("agent_stands_still", "/proc/PID/status: State: T (stopped)").map(drop)
}
