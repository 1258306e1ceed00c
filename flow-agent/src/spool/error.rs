//! Why a spool cannot be opened.

use std::io;

use crate::Exit;

/// Why a spool cannot be opened.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message says what each field is")]
pub enum SpoolError {
    /// Its owner runs.
    #[error(
        "the spool {path} belongs to another agent that is running; stop it, or give this one \
         another folder (dir of [spool], --spool-dir)"
    )]
    Locked { path: String },
    /// The folder cannot be used.
    #[error(
        "the spool {path} cannot be used: {source}; give another folder (dir of [spool], \
         --spool-dir), or \"\" to hold batches in memory only"
    )]
    Folder { path: String, source: io::Error },
    /// A file of an earlier agent may hold batches, and the system refuses to read it.
    #[error(
        "{file} in the spool {path} cannot be read: {source}; it may hold batches, so nothing was \
         started and it is left as it is: make it readable and writable for this user, or move it \
         elsewhere"
    )]
    Unread { path: String, file: String, source: io::Error },
    /// The system refuses a thread or a timer.
    #[error("the operating system refuses a thread or timer for the spool: {source}")]
    Thread { source: io::Error },
}

impl SpoolError {
    /// The process exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Locked { .. } | Self::Thread { .. } => Exit::Failed,
            Self::Unread { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => Exit::Privilege,
                _ => Exit::Failed,
            },
            Self::Folder { .. } => Exit::Usage,
        }
    }
}
