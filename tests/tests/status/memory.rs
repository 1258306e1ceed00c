//! A short memory, and what the status says of it.

#![allow(clippy::float_cmp, reason = "samples are whole numbers here")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use flow_tests::bin_path::flow_agent;
use flow_tests::rig::{self, Rig};
use flow_tests::sql;
use flow_tests::status::{ANY_PORT, Samples, Status};
use flow_tests::traffic::{self, Ends};

use super::until;

/// An agent for which another folder is the one of control groups.
fn in_made_group(folder: &Path) -> Result<PathBuf> {
    let script = folder.join("agent");
    let group = folder.join("group");
    std::fs::create_dir_all(&group)?;
    let text = format!(
        "#!/bin/sh\nexec unshare --mount --propagation private sh -c \
         'mount --bind {} /sys/fs/cgroup && exec \"$0\" \"$@\"' '{}' \"$@\"\n",
        group.display(),
        flow_agent().display()
    );
    std::fs::write(&script, text)?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

#[test]
fn a_short_memory_makes_the_cache_smaller_and_loses_no_packet() -> Result<()> {
    let rig = Rig::new()?;
    let folder = tempfile::tempdir()?;
    let binary = in_made_group(folder.path())?;
    let group =
        |name: &str, text: &str| std::fs::write(folder.path().join("group").join(name), text);
    group("memory.max", "1000000\n")?;
    group("memory.high", "max\n")?;
    group("memory.current", "500000\n")?;
    group("memory.stat", "inactive_file 100000\n")?;
    let file = folder.path().join("agent.toml");
    std::fs::write(&file, "max_flows = 1000\n[memory]\nfloor_flows = 100\n")?;
    let path = file.display().to_string();
    let more = ["--config", &path, "--drain-interval", "100", "--idle-timeout", "60"];
    let more = [&ANY_PORT[..], &more].concat();
    let agent = rig::agent_of(&binary, &rig.lab, ("tc", "tc"), rig.store.url(), &more)?;
    let status = Status::of(&agent)?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let counts = rig::tally(&rig.lab, |_| {
        traffic::ask(Ends::v4((left, 0), (right, 0), 53), 200, 2, 40, 300)
    })?;
    // A key for each direction at one end, a flow at each of two ends.
    let flows = counts.0.by_key().len() as f64;
    assert!(flows > 300.0, "{flows}");
    let metrics = until(|| status.metrics(), |metrics| metrics["flow_agent_cache_flows"] == flows)?;
    assert_eq!(metrics["flow_agent_memory_shrinks_total"], 0.0);
    assert_eq!(metrics["flow_agent_memory_used_bytes{source=\"cgroup\"}"], 400_000.0);
    assert_eq!(metrics["flow_agent_memory_limit_bytes{source=\"cgroup\"}"], 1_000_000.0);
    group("memory.current", "1100000\n")?;
    let shrunk = |metrics: &Samples| {
        metrics["flow_agent_memory_shrinks_total"] >= 1.0
            && metrics["flow_agent_cache_flows"] <= 300.0
    };
    let metrics = until(|| status.metrics(), shrunk)?;
    assert!(metrics["flow_agent_cache_limit_flows"] <= 300.0);
    assert_eq!(metrics["flow_agent_cache_configured_flows"], 1_000.0);
    assert!(agent.log().contains("memory is short: 0 of 0 MiB in use (cgroup)"), "{}", agent.log());
    let memory = &status.json("/api/v1/status")?["memory"];
    assert_eq!(memory["configured_flows"], 1_000);
    agent.stop()?;
    let evicted = sql::number(
        rig.store.url(),
        "SELECT count() FROM flow.flows WHERE flow_end_reason = 'lack_of_resources'",
    )?;
    assert!(evicted as f64 >= flows - 300.0, "{evicted} of {flows}");
    rig::exact(&rig.lab, rig.store.url(), &counts)
}
