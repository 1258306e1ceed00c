//! What a command can fail with, and the exit code that tells a script why.

use crate::store::StoreError;

/// Exit codes of the `flow-agent` command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The work was tried and failed.
    Failed = 1,
    /// Bad usage, configuration or input; nothing was started.
    Usage = 2,
    /// A privilege or kernel feature is missing.
    Privilege = 3,
    /// The store cannot be reached.
    Store = 4,
}

/// The error of any command: one sentence that says what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The embedded store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    /// The process exit code for this error.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Store(error) => error.exit(),
        }
    }
}
