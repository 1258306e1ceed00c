//! `flow-agent check` on hosts that are well and on hosts that are not: each fault is real, is
//! named with what to do, and nothing is changed by looking. Needs root and libchdb.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use flow_tests::bin_path::flow_agent;
use flow_tests::foreign::Foreign;
use flow_tests::hooks::attached;
use flow_tests::lab::{Lab, Namespace};
use flow_tests::rig::Rig;
use flow_tests::small_disk::SmallDisk;
use flow_tests::sql;
use flow_tests::traffic::{self, Ends};
use rustix::mount::{MountFlags, mount_remount};
use serde_json::Value;

/// Exit codes.
const OK: i32 = 0;
const FAILS: i32 = 1;
const WARNS: i32 = 5;

fn run(program: &Path, arguments: &[&str]) -> Result<Output> {
    Command::new(program).args(arguments).output().context("it runs")
}

/// The object, and the exit code, which must be as the object says.
fn check(arguments: &[&str]) -> Result<Value> {
    parsed(&run(&flow_agent(), &[&["check", "--json"], arguments].concat())?)
}

fn parsed(output: &Output) -> Result<Value> {
    let report: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let code = match report["verdict"].as_str() {
        Some("ok") => OK,
        Some("warn") => WARNS,
        _ => FAILS,
    };
    ensure!(output.status.code() == Some(code), "{report:#}");
    for finding in findings(&report) {
        let is_well = finding["verdict"] == "ok";
        ensure!(finding["fix"].is_null() == is_well, "a fix for what is not well: {finding}");
    }
    Ok(report)
}

fn findings(report: &Value) -> &[Value] {
    report["findings"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The findings of one check must contain one so, with these words in what was found or the fix.
fn says(report: &Value, check: &str, verdict: &str, words: &[&str]) -> Result<()> {
    let of = findings(report).iter().filter(|it| it["check"] == check && it["verdict"] == verdict);
    let is_it = |it: &Value| {
        let text = format!("{} {} {}", it["subject"], it["found"], it["fix"]);
        words.iter().all(|words| text.contains(words))
    };
    ensure!(of.clone().any(is_it), "no {verdict} of {check} with {words:?}: {report:#}");
    Ok(())
}

/// What could keep programs or tables alive after a process: pins, and places for them.
fn pins() -> Result<Vec<String>> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let mut list: Vec<_> =
        mounts.lines().filter(|line| line.contains(" bpf ")).map(str::to_owned).collect();
    for entry in std::fs::read_dir("/sys/fs/bpf")? {
        list.push(entry?.path().display().to_string());
    }
    list.sort();
    Ok(list)
}

#[test]
fn a_good_host_is_well_and_stays_as_it_was() -> Result<()> {
    let rig = Rig::new()?;
    let (left, right) = (rig.lab.left.spec("tc"), rig.lab.right.spec("auto"));
    let folder = tempfile::tempdir()?;
    let spool = folder.path().join("spool").display().to_string();
    let host = ["--interface", &left, "--interface", &right, "--spool-dir", &spool];
    let arguments = [&host[..], &["--store", rig.store.url()]].concat();
    let before = pins()?;
    let report = check(&arguments)?;
    assert_eq!(report["failures"], 0, "{report:#}");
    for name in ["kernel", "btf", "jit", "capabilities", "programs", "bpffs", "mtu", "offloads"] {
        says(&report, name, "ok", &[])?;
    }
    says(&report, "interface", "ok", &[rig.lab.left.namespace.name(), "veth", "TC ingress"])?;
    says(&report, "other_programs", "ok", &["none"])?;
    says(&report, "spool", "ok", &[&spool, "MiB free"])?;
    says(&report, "store", "ok", &[rig.store.url(), "ClickHouse 26."])?;
    says(&report, "tables", "ok", &["has none yet"])?;
    says(&report, "clock_skew", "ok", &["ms"])?;
    assert_eq!(pins()?, before);
    assert_eq!(attached(&rig.lab.left)?, Vec::<String>::new());
    assert!(!Path::new(&spool).exists());
    assert_eq!(sql::text(rig.store.url(), "SHOW DATABASES LIKE 'flow'")?, "");

    // The same lines for a person, with nothing but text when it is no terminal.
    let output = run(&flow_agent(), &[&["check"], &arguments[..]].concat())?;
    let text = String::from_utf8(output.stdout)?;
    assert_eq!(text.lines().count(), findings(&report).len(), "{text}");
    let aligned = text.lines().map(|line| line.find("  - ")).collect::<Vec<_>>();
    assert!(aligned.iter().all(|at| at.is_some() && *at == aligned[0]), "{text}");
    assert!(!text.contains('\x1b'));

    // Beside a running agent: its tables are well, and it is known for what it is.
    let agent = rig.agent(("tc", "tc"))?;
    let report = check(&arguments)?;
    says(&report, "metered", "ok", &["tc_ingress", "flow-agent"])?;
    says(&report, "tables", "ok", &["has the schema of this agent"])?;
    says(&report, "deduplication", "ok", &[])?;
    traffic::ping(Ends::v4((&rig.lab.left, 0), (&rig.lab.right, 0), 0), 2, 56)?;
    agent.stop()?;

    // Somebody switches a window off: the remedy that is named brings it back.
    let off = "ALTER TABLE flow.flows MODIFY SETTING non_replicated_deduplication_window = 0";
    sql::text(rig.store.url(), off)?;
    let report = check(&arguments)?;
    says(&report, "deduplication", "fail", &["flow.flows would store a repeated insert twice"])?;
    let fix = findings(&report).iter().find(|it| it["check"] == "deduplication");
    let fix = fix.and_then(|it| it["fix"].as_str()).context("a fix")?;
    sql::text(rig.store.url(), fix)?;
    says(&check(&arguments)?, "deduplication", "ok", &[])?;
    sql::text(rig.store.url(), "DROP TABLE flow.ledger")?;
    says(&check(&arguments)?, "tables", "warn", &["flow.ledger", "flow-agent schema"])
}

#[test]
fn a_store_that_is_away_or_something_else_is_told() -> Result<()> {
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let url = format!("http://{free}");
    let report = check(&["--interface", "lo", "--store", &url])?;
    says(&report, "store", "fail", &[&url, "Connection refused", "start it"])?;
    let output = run(&flow_agent(), &["check", "--interface", "lo", "--store", "nonsense"])?;
    assert_eq!(output.status.code(), Some(2), "what cannot be read is bad usage");
    let report = check(&["--interface", "no-such-interface"])?;
    says(&report, "interfaces", "fail", &["no-such-interface"])
}

#[test]
fn a_program_in_the_way_is_named_with_its_owner() -> Result<()> {
    let lab = Lab::new()?;
    let foreign = Foreign::drop_all(&lab.left)?;
    let by_tc = check(&["--interface", &lab.left.spec("tc")])?;
    let me = format!("({})", std::process::id());
    says(&by_tc, "other_programs", "warn", &["generic XDP", Foreign::NAME, "id ", &me])?;
    let by_xdp = check(&["--interface", &lab.left.spec("xdp-generic")])?;
    says(&by_xdp, "other_programs", "fail", &[Foreign::NAME, "only place", ":tc"])?;
    drop(foreign);
    let without = check(&["--interface", &lab.left.spec("tc")])?;
    says(&without, "other_programs", "ok", &["none"])
}

#[test]
fn a_spool_that_cannot_be_written_is_told_before_the_outage() -> Result<()> {
    let disk = SmallDisk::new(64)?;
    let spool = disk.path().join("spool").display().to_string();
    let look = || check(&["--interface", "lo", "--spool-dir", &spool]);
    says(&look()?, "spool", "warn", &[&spool, "MiB are free", "max_mib"])?;
    disk.fill(1 << 20)?;
    says(&look()?, "spool", "fail", &["only 1 MiB are free", "make room"])?;
    disk.empty()?;
    mount_remount(disk.path(), MountFlags::RDONLY, c"size=64m")?;
    says(&look()?, "spool", "fail", &["read-only", "remount,rw"])?;
    let file = tempfile::NamedTempFile::new()?;
    let path = file.path().display().to_string();
    let report = check(&["--interface", "lo", "--spool-dir", &path])?;
    says(&report, "spool", "fail", &["is no folder"])
}

#[test]
fn missing_capabilities_are_named() -> Result<()> {
    let program = flow_agent().display().to_string();
    let without = |set: &str| -> Result<Value> {
        let arguments = [&format!("--bounding-set={set}"), &format!("--inh-caps={set}")];
        let mut command = Command::new("setpriv");
        command.args(arguments).args([&program, "check", "--json", "--interface", "lo"]);
        parsed(&command.output()?)
    };
    let report = without("-bpf,-perfmon")?;
    says(&report, "capabilities", "fail", &["CAP_BPF, CAP_PERFMON are missing", "bounding set"])?;
    says(&report, "programs", "fail", &["not tried"])?;
    let report = without("-net_admin")?;
    says(&report, "capabilities", "fail", &["CAP_NET_ADMIN is missing"])?;
    // A user that could get them, and has none; where the binary is, only root may be.
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    let copy = folder.path().join("flow-agent");
    std::fs::copy(flow_agent(), &copy)?;
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--clear-groups"]).arg(&copy);
    let output = command.args(["check", "--json", "--interface", "lo"]).output()?;
    let report = parsed(&output)?;
    let all = "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON are missing";
    says(&report, "capabilities", "fail", &[all, "AmbientCapabilities="])?;
    says(&report, "spool", "fail", &["Permission denied"])
}

#[test]
fn large_packets_and_offloads_are_judged_by_what_the_driver_can() -> Result<()> {
    let name = format!("flow-{}-check", std::process::id());
    let space = Namespace::create(&name)?;
    space.ip(
        "link add large mtu 9000 type veth peer name other\nlink set large up\nlink set other up\n\
         tuntap add mode tap name tap0\nlink set tap0 mtu 9000\nlink set tap0 up\n",
    )?;
    let (veth, tap) = (format!("{name}/large"), format!("{name}/tap0"));
    let report = check(&["--interface", &format!("{veth}:xdp")])?;
    says(&report, "mtu", "ok", &[&veth, "9000 octets", "take fragments"])?;
    says(&report, "native_xdp", "warn", &["segmentation offload"])?;
    says(&report, "offloads", "warn", &["VLAN", "txvlan off"])?;
    let report = check(&["--interface", &format!("{tap}:xdp")])?;
    says(&report, "mtu", "fail", &[&tap, "9000 octets", "no fragments", "mtu 3502"])?;
    // TC has no such limits.
    let report = check(&["--interface", &veth, "--interface", &tap])?;
    says(&report, "mtu", "ok", &[&tap, "9000"])?;
    says(&report, "offloads", "ok", &[&veth])
}

/// What the kernel says of the clock, as programs of the host pass it on; here they are ours.
#[test]
fn a_clock_that_nobody_keeps_right_is_told() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let chronyc = "echo A29FC801,162.159.200.1,3,1763690000.0,0.000120,0.0,0.0,0.0,0.0,0.0,\
                   0.004000,0.001000,64.2,Normal";
    for (timedatectl, chronyc, verdict, words) in [
        ("echo yes", chronyc, "ok", "as synchronised; its error is at most 3.120 ms"),
        ("echo no", chronyc, "warn", "timedatectl set-ntp true"),
        ("exit 1", chronyc, "ok", "chronyd has synchronised"),
    ] {
        for (name, script) in [("timedatectl", timedatectl), ("chronyc", chronyc)] {
            let file = folder.path().join(name);
            std::fs::write(&file, format!("#!/bin/sh\n{script}\n"))?;
            std::fs::set_permissions(&file, Permissions::from_mode(0o755))?;
        }
        let mut command = Command::new(flow_agent());
        command.args(["check", "--json", "--interface", "lo", "--store", "http://127.0.0.1:9"]);
        let report = parsed(&command.env("PATH", &path).output()?)?;
        says(&report, "time_sync", verdict, &[words])?;
    }
    Ok(())
}
