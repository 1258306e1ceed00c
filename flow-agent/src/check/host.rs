//! The kernel, its settings, and limits of this process and its control group.

use std::fs;

use aya::util::KernelVersion;
use rustix::fs::statfs;
use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::attach::{OLDEST, TCX, TableSize};
use crate::config::Config;
use crate::host::{cgroup_memory_limit, online_cpus};

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// What no process can change but an administrator.
pub fn kernel() -> Vec<Finding> {
    let mut findings = vec![version()];
    if read("/sys/kernel/realtime").as_deref() == Some("1") {
        findings.push(Finding::fail(
            "kernel",
            "PREEMPT_RT: programs can nest on a CPU, and counts would not be exact",
            "boot a kernel without PREEMPT_RT",
        ));
    }
    findings.push(if fs::exists("/sys/kernel/btf/vmlinux").unwrap_or(false) {
        Finding::ok("btf", "the kernel describes its types (/sys/kernel/btf/vmlinux)")
    } else {
        Finding::warn(
            "btf",
            "there is no /sys/kernel/btf/vmlinux",
            "boot a kernel with CONFIG_DEBUG_INFO_BTF=y, as distributions ship it",
        )
    });
    findings.push(jit());
    findings.push(unprivileged());
    findings
}

fn version() -> Finding {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    match KernelVersion::current() {
        Ok(version) if version < OLDEST => Finding::fail(
            "kernel",
            format!("Linux {release}; 6.1 is the oldest that works"),
            "boot Linux 6.1 or later",
        ),
        Ok(version) if version < TCX => Finding::ok(
            "kernel",
            format!("Linux {release}; TC programs need a clsact qdisc, which 6.6 does without"),
        ),
        Ok(_) => Finding::ok("kernel", format!("Linux {release}; 6.1 is the oldest that works")),
        Err(error) => {
            let found = format!("the version of Linux {release} cannot be read: {error}");
            Finding::warn("kernel", found, "make sure that it is 6.1 or later")
        }
    }
}

fn jit() -> Finding {
    let fix = "sysctl -w net.core.bpf_jit_enable=1";
    match read("/proc/sys/net/core/bpf_jit_enable").as_deref() {
        Some("0") => Finding::warn(
            "jit",
            "BPF programs are interpreted: a packet costs many times as much",
            fix,
        ),
        Some("2") => Finding::warn("jit", "on, and every program is written to the log", fix),
        Some(_) => Finding::ok("jit", "on"),
        // In a network namespace of its own the switch is not shown.
        None => Finding::ok("jit", "the switch is not shown here; kernels have it on by default"),
    }
}

fn unprivileged() -> Finding {
    const CHECK: &str = "unprivileged_bpf";
    match read("/proc/sys/kernel/unprivileged_bpf_disabled").as_deref() {
        Some("0") => Finding::warn(
            CHECK,
            "every user of this host may load BPF programs (the agent does not need that)",
            "sysctl -w kernel.unprivileged_bpf_disabled=1",
        ),
        Some(_) => Finding::ok(CHECK, "only privileged processes may load BPF programs"),
        None => Finding::ok(CHECK, "this kernel has no such switch"),
    }
}

/// What the tables, descriptors and pins need.
pub fn limits(config: &Config) -> Vec<Finding> {
    vec![memlock(), memory(config), descriptors(), bpffs(config)]
}

fn memlock() -> Finding {
    let text = match getrlimit(Resource::Memlock).current {
        None => "unlimited".to_owned(),
        Some(octets) => format!("{} KiB", octets >> 10),
    };
    let found = format!("{text}; BPF memory counts for the control group instead since Linux 5.11");
    Finding::ok("memlock", found)
}

/// The kernel tables count for the control group of the agent.
fn memory(config: &Config) -> Finding {
    const CHECK: &str = "memory";
    /// For the cache, batches and the program itself.
    const BESIDE: u64 = 64 << 20;
    let (cpus, said) = (online_cpus(), config.table_memory_bytes);
    let size = match TableSize::of_host(cpus, 1, config.decapsulate, said) {
        Ok(size) => size,
        Err(error) => return Finding::fail(CHECK, error.to_string(), "raise table_memory_mib"),
    };
    let tables = size.bytes() >> 20;
    let Some(limit) = cgroup_memory_limit() else {
        return Finding::ok(CHECK, format!("kernel tables take {tables} MiB; there is no limit"));
    };
    let found = format!("kernel tables take {tables} MiB; the limit is {} MiB", limit >> 20);
    if size.bytes() + BESIDE > limit {
        let fix = "raise the memory limit of the control group (MemoryMax=), or lower \
                   table_memory_mib";
        return Finding::fail(CHECK, found, fix);
    }
    Finding::ok(CHECK, found)
}

fn descriptors() -> Finding {
    /// Two hooks for each of some interfaces, connections, files of the spool.
    const ENOUGH: u64 = 1024;
    match getrlimit(Resource::Nofile).maximum {
        Some(most) if most < ENOUGH => Finding::warn(
            "open_files",
            format!("at most {most}; each hook, connection and file takes one"),
            "LimitNOFILE=65536 in the unit, or ulimit -Hn",
        ),
        Some(most) => Finding::ok("open_files", format!("at most {most}")),
        None => Finding::ok("open_files", "unlimited"),
    }
}

/// Where the tables are kept for the next agent.
fn bpffs(config: &Config) -> Finding {
    const CHECK: &str = "bpffs";
    const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
    let Some(folder) = &config.pin_dir else {
        return Finding::ok(CHECK, "not used (pin_dir is empty): a killed agent's tables are lost");
    };
    let there = folder.ancestors().find(|path| path.exists()).unwrap_or(folder);
    let fix = "mount -t bpf bpf /sys/fs/bpf, or say pin_dir = \"\"";
    match statfs(there) {
        Ok(system) if system.f_type == BPF_FS_MAGIC => {
            Finding::ok(CHECK, format!("{} is in a BPF file system", folder.display()))
        }
        Ok(_) => Finding::warn(
            CHECK,
            format!(
                "{} is in no BPF file system: if an agent is killed, the packets of its last \
                 interval are lost",
                folder.display()
            ),
            fix,
        ),
        Err(error) => Finding::warn(CHECK, format!("{}: {error}", folder.display()), fix),
    }
}
