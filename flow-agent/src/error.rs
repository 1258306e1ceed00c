//! What a command can fail with, and the exit code that tells a script why.

use crate::replay::ReplayError;
use crate::sink::SinkError;
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
    /// It works, but something should be done (`check`).
    Warned = 5,
}

/// The error of any command: one sentence that says what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The embedded store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A sink.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A backup or restore.
    #[error(transparent)]
    Backup(#[from] crate::backup::BackupError),
    /// A replay.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// A file of addresses.
    #[error(transparent)]
    Geo(#[from] crate::enrich::GeoError),
    /// The configuration.
    #[cfg(feature = "live")]
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// Man pages and completions for packages.
    #[error("{folder} cannot be filled: {source}; give a folder that may be written to")]
    Generate {
        /// Where they were to go.
        folder: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The spool.
    #[error(transparent)]
    Spool(#[from] crate::spool::SpoolError),
    /// The quarantine.
    #[error(transparent)]
    Quarantine(#[from] crate::sink::quarantine::QuarantineError),
    /// Attaching.
    #[cfg(feature = "live")]
    #[error(transparent)]
    Attach(#[from] crate::attach::AttachError),
    /// Draining.
    #[cfg(feature = "live")]
    #[error(transparent)]
    Drain(#[from] crate::drain::DrainError),
    /// The terminal view.
    #[cfg(feature = "live")]
    #[error(transparent)]
    Top(#[from] crate::top::TopError),
    /// The status, or asking for it.
    #[cfg(feature = "live")]
    #[error(transparent)]
    Status(#[from] crate::status::StatusError),
    /// The store did not take everything before the agent had to stop.
    #[error(
        "{packets} metered packets are in no row and are lost{}",
        source.as_ref().map_or_else(
            || " (reasons are in the ledger, at the stage undelivered)".to_string(),
            |source| format!(": {source}"),
        )
    )]
    Undelivered {
        /// Packets of the records that are lost.
        packets: u64,
        /// Why, if it was at the end.
        source: Option<SinkError>,
    },
    /// The tables of a store are not as the schema has them.
    #[error(
        "{count} differences between the tables and the schema of this agent; \
         `flow-agent schema print` has the statements"
    )]
    Differences {
        /// How many.
        count: usize,
    },
    /// What was checked is not as it should be.
    #[cfg(feature = "live")]
    #[error("{failures} checks fail, {warnings} warn: what to do is at the end of each line")]
    Checked {
        /// How many fail.
        failures: usize,
        /// How many warn.
        warnings: usize,
    },
    /// Packets that neither the ledger nor anything else explains.
    #[cfg(feature = "live")]
    #[error(
        "packets stay unexplained at {interfaces} of the interfaces; see `flow-agent check` for \
         what may be in the way, and docs/troubleshooting.md"
    )]
    Unexplained {
        /// At how many interfaces.
        interfaces: usize,
    },
    /// A measurement cannot be made, or its counts are wrong.
    #[cfg(feature = "live")]
    #[error("the measurement is not to be trusted: {problem}")]
    Measurement {
        /// What went wrong.
        problem: String,
    },
    /// A stage's thread has ended.
    #[error("the {stage} stage has failed (its message is above); this is a bug, please report it")]
    Stage {
        /// Which.
        stage: &'static str,
    },
    /// The operating system refuses a thread, a signal handler or a process.
    #[error("the operating system refuses a thread or process: {source}; see ulimit -u")]
    Thread {
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    /// A failure of the operating system to give a thread.
    pub fn thread(source: std::io::Error) -> Self {
        Self::Thread { source }
    }

    /// The process exit code for this error.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Store(error) => error.exit(),
            Self::Sink(error) | Self::Undelivered { source: Some(error), .. } => error.exit(),
            Self::Backup(error) => error.exit(),
            Self::Replay(error) => error.exit(),
            Self::Spool(error) => error.exit(),
            Self::Quarantine(error) => error.exit(),
            Self::Geo(_) => crate::enrich::GeoError::EXIT,
            #[cfg(feature = "live")]
            Self::Config(_) => crate::config::ConfigError::EXIT,
            #[cfg(feature = "live")]
            Self::Attach(error) => error.exit(),
            #[cfg(feature = "live")]
            Self::Drain(error) => error.exit(),
            #[cfg(feature = "live")]
            Self::Status(error) => error.exit(),
            #[cfg(feature = "live")]
            Self::Checked { failures: 0, .. } => Exit::Warned,
            #[cfg(feature = "live")]
            Self::Top(crate::top::TopError::NoTerminal) => Exit::Usage,
            #[cfg(feature = "live")]
            Self::Checked { .. }
            | Self::Unexplained { .. }
            | Self::Measurement { .. }
            | Self::Top(_) => Exit::Failed,
            Self::Undelivered { source: None, .. }
            | Self::Differences { .. }
            | Self::Generate { .. }
            | Self::Stage { .. }
            | Self::Thread { .. } => Exit::Failed,
        }
    }
}

impl From<crate::replay::capture::CaptureError> for Error {
    fn from(error: crate::replay::capture::CaptureError) -> Self {
        Self::Replay(error.into())
    }
}
