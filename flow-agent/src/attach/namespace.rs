//! Network namespaces: doing something inside one without leaving a thread there.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{AttachError, NEEDS_TO_JOIN};

/// The namespace of the process, or one named by `ip netns`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetworkNamespace {
    /// Where the agent was started.
    Own,
    /// A name under `/run/netns`.
    Named(String),
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
        let namespace = match self {
            Self::Own => None,
            Self::Named(name) => Some((name, Self::open(name)?)),
        };
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    if let Some((name, file)) = &namespace {
                        join(name, file)?;
                    }
                    work()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn open(name: &str) -> Result<File, AttachError> {
        let path = Path::new("/run/netns").join(name);
        File::open(&path).map_err(|source| AttachError::Namespace {
            name: name.to_string(),
            path: path.display().to_string(),
            source,
        })
    }
}

fn join(name: &str, namespace: &File) -> Result<(), AttachError> {
    let network = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(namespace.as_fd(), network).map_err(|errno| match errno {
        Errno::PERM => AttachError::Permission {
            operation: format!("joining network namespace '{name}'"),
            needs: NEEDS_TO_JOIN,
        },
        errno => AttachError::Io {
            what: format!("network namespace '{name}' cannot be joined"),
            source: errno.into(),
        },
    })
}
