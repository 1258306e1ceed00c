//! A place where several loads of the programs find the same maps.
//!
//! It is a BPF file system that is mounted nowhere: nobody else sees it, nothing of it is
//! left behind, and it is gone with its descriptor. It needs `CAP_SYS_ADMIN`, as joining
//! another network namespace does, without which there is nothing to share for.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use aya::Ebpf;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// The maps that all planes share.
pub struct SharedMaps {
    mount: OwnedFd,
    names: Vec<String>,
}

impl SharedMaps {
    /// All maps of a load but the constants, in which planes differ.
    ///
    /// # Errors
    /// The kernel refuses: usually a missing privilege.
    pub fn new(ebpf: &Ebpf) -> io::Result<Self> {
        let context = fsopen("bpf", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        let mount = fsmount(&context, flags, MountAttrFlags::empty())?;
        let mut shared = Self { mount, names: Vec::new() };
        for (name, map) in ebpf.maps().filter(|(name, _)| !name.starts_with(".rodata")) {
            map.pin(shared.path(name)).map_err(io::Error::other)?;
            shared.names.push(name.into());
        }
        Ok(shared)
    }

    /// The maps, and where they are.
    pub fn maps(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        self.names.iter().map(|name| (name.as_str(), self.path(name)))
    }

    /// Where a map is.
    pub fn path(&self, name: &str) -> PathBuf {
        // The file system takes no name with a dot.
        let name = name.trim_start_matches('.');
        format!("/proc/self/fd/{}/{name}", self.mount.as_raw_fd()).into()
    }
}
