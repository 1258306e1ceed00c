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
    /// The system refuses a thread or a timer.
    #[error("the operating system refuses a thread or timer for the spool: {source}")]
    Thread { source: io::Error },
}

impl SpoolError {
    /// The process exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Locked { .. } | Self::Thread { .. } => Exit::Failed,
            Self::Folder { .. } => Exit::Usage,
        }
    }
}
