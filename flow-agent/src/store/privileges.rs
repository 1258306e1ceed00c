//! As whom the store uses files: enters the data folder, leaves a process of
//! the folder's owner. SQL reads and writes files (`file()`), so a store of
//! root is a way to become root. What must hold: no thread keeps the old user,
//! so this comes before any other thread.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use super::StoreError;

/// The group of an owner that `/etc/passwd` does not know.
const NO_GROUP: u32 = 65_534;

/// If this process is root and the folder another user's, becomes that user.
/// True if it is still root afterwards.
pub fn become_owner(dir: &Path) -> Result<bool, StoreError> {
    if !geteuid().is_root() {
        return Ok(false);
    }
    // A folder that is not there yet is going to be root's.
    let Ok(metadata) = fs::metadata(dir) else { return Ok(true) };
    let uid = metadata.uid();
    if uid == 0 {
        return Ok(true);
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let gid = primary_group(&passwd, uid).unwrap_or(NO_GROUP);
    switch(uid, gid).map_err(|source| StoreError::System {
        action: "become the owner of its data folder",
        source,
    })?;
    tracing::info!(uid, gid, "running as the owner of the data folder, not as root");
    Ok(false)
}

/// Credentials are a thread's own in Linux; new threads inherit them.
fn switch(uid: u32, gid: u32) -> io::Result<()> {
    let threads = fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!("{threads} threads run already, which is a bug")));
    }
    set_thread_groups(&[])?;
    set_thread_gid(Gid::from_raw(gid))?;
    set_thread_uid(Uid::from_raw(uid))?;
    Ok(())
}

/// The group of a user in the text of `/etc/passwd`.
fn primary_group(passwd: &str, uid: u32) -> Option<u32> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        (fields.next()?.parse() == Ok(uid)).then(|| fields.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_primary_group_is_found() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nbroken\nflow:x:990:991::/var/lib/flow:/bin/false\n";
        assert_eq!(primary_group(passwd, 990), Some(991));
        assert_eq!(primary_group(passwd, 991), None);
    }
}
