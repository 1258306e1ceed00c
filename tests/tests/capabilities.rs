//! Capabilities: an agent with the three of its unit gives up what it no longer needs, and does
//! all the rest of its work without.
//!
//! Needs root (the agent is another user's), the binary, libchdb and setpriv.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flow_tests::bin_path::flow_agent;
use flow_tests::lab::Lab;
use flow_tests::process::{Agent, Store};
use flow_tests::sql;
use flow_tests::status::Status;
use flow_tests::traffic::{self, Ends};
use rustix::process::Signal;
use tempfile::TempDir;

/// A user that owns nothing but what is given to it here.
const USER: u32 = 61_235;
const SOON: Duration = Duration::from_secs(20);
const ALL: u64 = 1 << 12 | 1 << 38 | 1 << 39;
const NET_ADMIN: u64 = 1 << 12;

/// What an agent of the user needs: a copy of the binary that starts with exactly the three
/// capabilities, a folder for its files, and one for its pins, gone when it is dropped.
struct Home {
    folder: TempDir,
    pins: PathBuf,
}

impl Home {
    fn new() -> Result<Self> {
        let folder = TempDir::with_prefix("flow-capabilities-")?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        let name = folder.path().file_name().context("a name")?;
        let pins = Path::new("/sys/fs/bpf").join(name.to_string_lossy().replace('.', "-"));
        let home = Self { folder, pins };
        fs::create_dir(&home.pins).context("/sys/fs/bpf must be a BPF file system")?;
        fs::create_dir(home.path("var"))?;
        for path in [&home.pins, &home.path("var")] {
            chown(path, Some(USER), Some(USER))?;
        }
        fs::create_dir(home.path("hold"))?;
        let binary = home.path("flow-agent");
        fs::copy(flow_agent(), &binary)?;
        let list = "-all,+bpf,+net_admin,+perfmon";
        // The root of that file system is root's alone; the unit mounts the folder in the same
        // way.
        let script = format!(
            "#!/bin/sh\nset -e\n\
             exec unshare --mount --propagation private sh -ec '\n\
             mount --bind {pins} {hold}\n\
             mount -t tmpfs -o mode=0755 tmpfs /sys/fs/bpf\n\
             mkdir /sys/fs/bpf/flow-agent\n\
             mount --bind {hold} /sys/fs/bpf/flow-agent\n\
             exec setpriv --reuid={USER} --regid={USER} --clear-groups --no-new-privs \
             --bounding-set={list} --inh-caps={list} --ambient-caps={list} {binary} \"$@\"\n' \
             agent \"$@\"\n",
            pins = home.pins.display(),
            hold = home.path("hold").display(),
            binary = binary.display(),
        );
        fs::write(home.path("agent"), script)?;
        fs::set_permissions(home.path("agent"), Permissions::from_mode(0o755))?;
        Ok(home)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts it with this configuration.
    fn start(&self, interfaces: &[&str], config: &str, url: &str) -> Result<Agent> {
        let file = self.path("var/flow-agent.toml").display().to_string();
        let quarantine = self.path("var/quarantine").display().to_string();
        fs::write(&file, format!("{config}[delivery]\nquarantine_dir = {quarantine:?}\n"))?;
        let spool = self.path("var/spool").display().to_string();
        let mut arguments = vec!["--config", file.as_str(), "--store", url, "--spool-dir", &spool];
        arguments.extend(["--pin-dir", "/sys/fs/bpf/flow-agent", "--status", "127.0.0.1:0"]);
        arguments.extend(interfaces.iter().flat_map(|name| ["--interface", *name]));
        Agent::start(&self.path("agent"), &arguments)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A killed agent leaves its tables in it.
        drop(fs::remove_dir_all(&self.pins));
    }
}

/// The permitted capabilities of each thread, as the kernel says, by the names of the threads.
fn threads(agent: &Agent) -> Result<BTreeMap<String, u64>> {
    let mut threads = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{}/task", agent.id()))? {
        let Ok(text) = fs::read_to_string(task?.path().join("status")) else { continue };
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.map(str::trim).with_context(|| format!("no {key} in {text}"))
        };
        let [permitted, effective, ambient] = ["CapPrm:", "CapEff:", "CapAmb:"]
            .map(|key| u64::from_str_radix(value(key)?, 16).context("hexadecimal"));
        let bits = permitted? | effective? | ambient?;
        *threads.entry(value("Name:")?.to_owned()).or_default() |= bits;
    }
    Ok(threads)
}

/// Waits until the agent has said what becomes of its capabilities; the threads that have some.
fn left(agent: &Agent) -> Result<BTreeMap<String, u64>> {
    agent.wait_log("apabilities are ", SOON)?;
    let mut left = threads(agent)?;
    ensure!(left.len() > 5, "the agent has more threads: {left:?}");
    left.retain(|_, bits| *bits != 0);
    Ok(left)
}

fn stored(url: &str, port: u16) -> Result<String> {
    let query = format!(
        "SELECT sum(packets + reverse_packets) FROM flow.flows WHERE {port} IN (src_port, dst_port)"
    );
    Ok(sql::text(url, &query)?.trim().to_owned())
}

#[test]
fn an_agent_that_has_given_up_everything_does_all_its_work() -> Result<()> {
    let (home, lab) = (Home::new()?, Lab::new()?);
    let (side, other) = (&lab.left, &lab.right);
    let ask = |port| traffic::ask(Ends::v4((side, 0), (other, 0), port), 10, 2, 40, 300);
    let extra = "link add extra index 301 type veth peer name extra-peer index 302\n\
                 link set extra up\nlink set extra-peer up\n";
    side.namespace.ip(extra)?;
    other.namespace.enter(|| {
        let store = Store::start_for_others(home.folder.path(), other.v4(0))?;
        let url = store.url();
        side.namespace.enter(|| {
            let interfaces = [&*format!("{}:tc", side.interface), "extra:xdp-generic"];
            let agent = home.start(&interfaces, "", url)?;
            ensure!(left(&agent)?.is_empty(), "{:?}\n{}", left(&agent)?, agent.log());
            let status = Status::of(&agent)?.json("/api/v1/status")?;
            let said = &status["capabilities"];
            ensure!(said["choice"] == "auto" && said["threads"] == serde_json::json!([]), "{said}");
            ask(4001)?;

            // Other filters and another sampling, without being allowed to make a map.
            let file = home.path("var/flow-agent.toml");
            let before = fs::read_to_string(&file)?;
            fs::write(&file, format!("{before}[filter]\nexclude_ports = [4002]\n"))?;
            agent.signal(Signal::HUP)?;
            agent.wait_log("filters and sampling are others", SOON)?;
            ask(4002)?;
            ask(4003)?;

            // An interface that goes and comes back is metered again, at both hooks.
            side.namespace.ip("link del extra\n")?;
            agent.wait_log("extra is gone", SOON)?;
            side.namespace.ip(extra)?;
            agent.wait_times("metering extra by generic XDP and TC egress", 2, SOON)?;
            ensure!(threads(&agent)?.values().all(|bits| *bits == 0), "nothing came back");

            // Killed, it leaves its tables, and the next one reads them.
            ensure!(fs::read_dir(&home.pins)?.count() == 1, "tables are kept for the next agent");
            agent.stop_with(Signal::KILL).expect_err("it was killed");
            let agent = home.start(&interfaces, "", url)?;
            ensure!(left(&agent)?.is_empty(), "{}", agent.log());
            ask(4004)?;
            let said = agent.stop()?;
            ensure!(said.contains("of an agent that was killed"), "{said}");
            ensure!(fs::read_dir(&home.pins)?.count() == 0, "no table is left behind\n{said}");
            // One thing is missing, and is for interfaces of other namespaces alone.
            for line in said.lines().filter(|line| !line.contains("CAP_NET_BROADCAST")) {
                for word in ["ERROR", "not permitted", "CAP_BPF", "capset"] {
                    ensure!(!line.contains(word), "{line}\n{said}");
                }
            }
            // What a killed agent had in its cache is lost; what was in the kernel's tables, and
            // what the second one metered, is not.
            ensure!(stored(url, 4004)? == "40", "{}\n{said}", stored(url, 4004)?);
            Ok(())
        })?;
        Ok(())
    })
}

#[test]
fn filters_count_after_everything_was_given_up() -> Result<()> {
    let (home, lab) = (Home::new()?, Lab::new()?);
    let (side, other) = (&lab.left, &lab.right);
    let ask = |port| traffic::ask(Ends::v4((side, 0), (other, 0), port), 10, 2, 40, 300);
    other.namespace.enter(|| {
        let store = Store::start_for_others(home.folder.path(), other.v4(0))?;
        let url = store.url();
        side.namespace.enter(|| {
            let agent = home.start(&[&format!("{}:tc", side.interface)], "", url)?;
            ensure!(left(&agent)?.is_empty(), "{}", agent.log());
            ask(4001)?;
            let file = home.path("var/flow-agent.toml");
            let rules = "[filter]\nexclude_ports = [4002]\nexclude = [\"192.0.2.0/24\"]\n";
            fs::write(&file, fs::read_to_string(&file)? + rules)?;
            agent.signal(Signal::HUP)?;
            agent.wait_log("filters and sampling are others", SOON)?;
            // They count from the next flip on.
            let status = Status::of(&agent)?;
            let drains = || -> Result<u64> {
                let page = status.json("/api/v1/status")?;
                page["drains"]["count"].as_u64().context("a number")
            };
            let first = drains()?;
            agent.wait_until("two drains", SOON, || Ok(drains()? >= first + 2))?;
            ask(4002)?;
            ask(4003)?;
            let said = agent.stop()?;
            for (port, packets) in [(4001, "40"), (4002, "0"), (4003, "40")] {
                let found = stored(url, port)?;
                ensure!(found == packets, "port {port}: {found}, not {packets}\n{said}");
            }
            Ok(())
        })
    })
}

#[test]
fn what_may_come_later_and_the_setting_decide_what_is_kept() -> Result<()> {
    let (home, lab) = (Home::new()?, Lab::new()?);
    let (side, other) = (&lab.left, &lab.right);
    let late = "link add veth-late index 303 type veth peer name peer-late index 304\n\
                link set veth-late up\nlink set peer-late up\n";
    other.namespace.enter(|| {
        let store = Store::start_for_others(home.folder.path(), other.v4(0))?;
        for (config, expected) in
            [("", Some(NET_ADMIN)), ("[run]\ncapabilities = \"drop\"\n", None)]
        {
            side.namespace.enter(|| {
                let agent = home.start(&["veth-l*:tc"], config, store.url())?;
                // The watch of the interfaces is a child of the thread that attaches.
                for (name, bits) in left(&agent)? {
                    let attaches = ["attach", "interfaces"].contains(&name.as_str());
                    ensure!(attaches && Some(bits) == expected, "{name}: {bits:x}, {config}");
                }
                ensure!(left(&agent)?.contains_key("attach") == expected.is_some(), "{config}");
                side.namespace.ip(late)?;
                agent.wait_log("metering veth-late by TC ingress and TC egress", SOON)?;
                side.namespace.ip("link del veth-late\n")?;
                agent.stop().map(drop)
            })?;
        }
        side.namespace.enter(|| {
            let config = "[run]\ncapabilities = \"keep\"\nkernel_statistics = true\n";
            let agent = home.start(&[side.interface], config, store.url())?;
            // That takes one more; what to do instead is said.
            agent.wait_log("run `sysctl kernel.bpf_stats_enabled=1` instead", SOON)?;
            let all = left(&agent)?;
            ensure!(all.len() > 5 && all.values().all(|bits| *bits == ALL), "{all:?}");
            agent.stop().map(drop)
        })
    })
}
