//! Folders: can they be written to, and is there room for what the configuration allows?

use std::ffi::OsStr;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, StatVfsMountFlags, accessat, statfs, statvfs};
use rustix::io::Errno;

use super::Finding;
use crate::config::Config;
use crate::sink::StoreTarget;

/// Below this nothing useful can be written, in octets.
const LEAST: u64 = 16 << 20;
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// The folders of the spool, the state, the quarantine and an embedded store.
pub fn check(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &config.spool.dir {
        Some(folder) => findings.push(spool(folder, config.spool.max_octets)),
        None => findings.push(Finding::warn(
            "spool",
            "batches wait in memory only (dir of [spool] is empty)",
            "give it a folder: what waits is lost when the agent ends",
        )),
    }
    if let Some(folder) = config.state.as_ref().and_then(|state| state.file.parent()) {
        findings.push(folder_for("state", folder));
    }
    findings.push(folder_for("quarantine", &config.delivery.quarantine_dir));
    if let StoreTarget::Embedded(folder) = &config.store {
        findings.push(folder_for("store_folder", folder));
    }
    findings
}

fn spool(folder: &Path, most: u64) -> Finding {
    let finding = folder_for("spool", folder);
    if finding.fix.is_some() {
        return finding;
    }
    let free = room(folder).unwrap_or(u64::MAX);
    let left = most.saturating_sub(used(folder));
    let subject = folder.display().to_string();
    if free < left {
        return Finding::warn(
            "spool",
            format!(
                "it may grow by {} MiB (max_mib of [spool]), but only {} MiB are free",
                left >> 20,
                free >> 20
            ),
            "make room, or lower max_mib: in a long outage the oldest batches would be dropped",
        )
        .of(subject);
    }
    let volatile = statfs(existing(folder)).is_ok_and(|it| it.f_type == TMPFS_MAGIC);
    if volatile {
        return Finding::warn(
            "spool",
            "it is on a tmpfs, in memory: what waits does not outlive a reboot",
            "put dir of [spool] on a disk",
        )
        .of(subject);
    }
    finding
}

/// That something can be written there.
fn folder_for(check: &'static str, folder: &Path) -> Finding {
    let there = existing(folder);
    let subject = folder.display().to_string();
    let made = if there == folder { "" } else { ", the folder is made at the start" };
    let finding = match statvfs(there) {
        Err(error) => {
            Finding::fail(check, format!("it cannot be looked at: {error}"), "see ls -ld")
        }
        Ok(system) if system.f_flag.contains(StatVfsMountFlags::RDONLY) => Finding::fail(
            check,
            format!("{} is mounted read-only", there.display()),
            format!("mount -o remount,rw, ReadWritePaths={subject} in the unit, or another folder"),
        ),
        Ok(_) if !there.is_dir() => {
            Finding::fail(check, format!("{} is no folder", there.display()), "name a folder")
        }
        Ok(system) => {
            match accessat(CWD, there, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
                Err(error) => refused(check, there, error),
                Ok(()) if system.f_files > 0 && system.f_favail == 0 => Finding::fail(
                    check,
                    "the file system has no inode left",
                    "remove files there, or name a folder on another disk",
                ),
                Ok(()) if system.f_bavail * system.f_frsize < LEAST => Finding::fail(
                    check,
                    format!("only {} MiB are free", (system.f_bavail * system.f_frsize) >> 20),
                    "make room there, or name a folder on another disk",
                ),
                Ok(()) => Finding::ok(
                    check,
                    format!(
                        "writable, {} MiB free{made}",
                        (system.f_bavail * system.f_frsize) >> 20
                    ),
                ),
            }
        }
    };
    finding.of(subject)
}

fn refused(check: &'static str, there: &Path, error: Errno) -> Finding {
    let found = format!("{} cannot be written to: {error}", there.display());
    let fix = match error {
        Errno::ACCESS => "chown it to the agent's user (StateDirectory=flow-agent in the unit)",
        _ => "see ls -ld and mount",
    };
    Finding::fail(check, found, fix)
}

/// The folder, or the nearest one above it that exists.
fn existing(folder: &Path) -> &Path {
    folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

fn room(folder: &Path) -> Option<u64> {
    let system = statvfs(existing(folder)).ok()?;
    Some(system.f_bavail * system.f_frsize)
}

/// What segments take already.
fn used(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let is_file = |name: &OsStr| name != "lock";
    let files = entries.flatten().filter(|entry| is_file(&entry.file_name()));
    files.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}
