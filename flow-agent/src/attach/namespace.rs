//! Network namespaces: finding them, and doing something inside one.
//!
//! Nothing here keeps a namespace open: an open file or socket would keep it, and
//! every interface in it, alive after its last process.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{AttachError, NEEDS_TO_JOIN};

/// Where `ip netns` keeps names.
pub const NAMES: &str = "/run/netns";

/// The namespace of the agent, one named by `ip netns`, or that of a process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NetworkNamespace {
    /// Where the agent was started.
    Own,
    /// A name under `/run/netns`.
    Named(String),
    /// That of the process with this id.
    Pid(u32),
}

/// What tells namespaces apart while they exist; the kernel uses it again afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceId {
    device: u64,
    inode: u64,
}

/// As a part of a file name.
impl fmt::Display for NamespaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.device, self.inode)
    }
}

/// As it stands before the name of an interface: nothing, `NAME/` or `pid:N/`.
impl fmt::Display for NetworkNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => Ok(()),
            Self::Named(name) => write!(f, "{name}/"),
            Self::Pid(pid) => write!(f, "pid:{pid}/"),
        }
    }
}

impl NetworkNamespace {
    /// Runs `work` on a thread that has joined the namespace and then ends.
    ///
    /// # Errors
    /// The namespace does not exist or may not be joined, or what `work` returns.
    pub fn run<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, AttachError> + Send,
    ) -> Result<T, AttachError> {
        if *self == Self::Own {
            return work();
        }
        self.run_in(&self.open()?, work)
    }

    /// The same, in a namespace that was opened before.
    ///
    /// # Errors
    /// It may not be joined, or what `work` returns.
    pub fn run_in<T: Send>(
        &self,
        file: &File,
        work: impl FnOnce() -> Result<T, AttachError> + Send,
    ) -> Result<T, AttachError> {
        std::thread::scope(|scope| {
            let inside = || {
                self.join(file)?;
                work()
            };
            scope.spawn(inside).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Opens it.
    ///
    /// # Errors
    /// It does not exist or may not be looked at.
    pub fn open(&self) -> Result<File, AttachError> {
        let path = self.path();
        File::open(&path).map_err(|source| AttachError::Namespace {
            name: self.name(),
            path: path.display().to_string(),
            source,
        })
    }

    /// The identity of an open namespace.
    ///
    /// # Errors
    /// The system does not say.
    pub fn id(file: &File) -> io::Result<NamespaceId> {
        let metadata = file.metadata()?;
        Ok(NamespaceId { device: metadata.dev(), inode: metadata.ino() })
    }

    /// For messages.
    pub fn name(&self) -> String {
        match self {
            Self::Own => "the agent's own".into(),
            Self::Named(name) => name.clone(),
            Self::Pid(pid) => format!("pid:{pid}"),
        }
    }

    fn path(&self) -> PathBuf {
        match self {
            Self::Own => "/proc/thread-self/ns/net".into(),
            Self::Named(name) => Path::new(NAMES).join(name),
            Self::Pid(pid) => format!("/proc/{pid}/ns/net").into(),
        }
    }

    fn join(&self, file: &File) -> Result<(), AttachError> {
        let network = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(file.as_fd(), network).map_err(|errno| match errno {
            Errno::PERM => AttachError::Permission {
                operation: format!("joining network namespace '{}'", self.name()),
                needs: NEEDS_TO_JOIN,
            },
            // A name without a namespace behind it: not mounted yet, or not any more.
            Errno::INVAL => AttachError::Namespace {
                name: self.name(),
                path: self.path().display().to_string(),
                source: errno.into(),
            },
            errno => AttachError::Io {
                what: format!("network namespace '{}' cannot be joined", self.name()),
                source: errno.into(),
            },
        })
    }
}

/// The names that `ip netns` has; none when it was never used.
pub fn named() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(NAMES) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// When a process began, in ticks since boot: with its id, it names one process for ever.
pub fn began(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program may have blanks; the fields after it have not (proc(5)).
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_stand_before_the_name_of_an_interface() {
        let text = |namespace: NetworkNamespace| format!("{namespace}eth0");
        assert_eq!(text(NetworkNamespace::Own), "eth0");
        assert_eq!(text(NetworkNamespace::Named("blue".into())), "blue/eth0");
        assert_eq!(text(NetworkNamespace::Pid(7)), "pid:7/eth0");
    }

    #[test]
    fn a_process_has_begun_and_its_namespace_is_that_of_its_threads() {
        assert!(began(std::process::id()).is_some_and(|ticks| ticks > 0));
        assert_eq!(began(u32::MAX), None);
        let id = |namespace: NetworkNamespace| {
            NetworkNamespace::id(&namespace.open().expect("it exists")).expect("it has one")
        };
        assert_eq!(id(NetworkNamespace::Own), id(NetworkNamespace::Pid(std::process::id())));
    }
}
