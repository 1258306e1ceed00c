//! The BPF file system, in which an agent keeps what must outlive it. systemd mounts it at every
//! boot; a machine or container without systemd may have none.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::report::{Step, found};
use crate::command;

const PLACE: &str = "/sys/fs/bpf";
const WHY: &str = "keeps what a killed agent held";

/// Mounts it if it is not there; only root can, and only root needs it.
pub fn ensure() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
    let is_there = |line: &str| {
        let mut words = line.split(' ').skip(1);
        words.next() == Some(PLACE) && words.next() == Some("bpf")
    };
    if mounts.lines().any(is_there) {
        found("bpffs", WHY, PLACE);
    } else if command::is_root() {
        let step = Step::begin("bpffs", WHY, format!("mount -t bpf bpf {PLACE}"));
        match command::quiet(Command::new("mount").args(["-t", "bpf", "bpf", PLACE])) {
            Ok(_) => step.done("mounted until the next boot"),
            // A container may forbid it; an agent meters without.
            Err(error) => step.done(format!("not mounted: {error:#}")),
        }
    }
    Ok(())
}
