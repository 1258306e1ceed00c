//! Why the embedded store cannot start or stop: what happened, where, and what to do.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::Exit;

/// Why the store cannot start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No engine library in any of the places that are searched.
    #[error(
        "no libchdb.so (the ClickHouse engine) in {}: run `cargo xtask setup`, or set FLOW_LIBCHDB to a copy of it",
        .searched.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    LibraryMissing {
        /// The paths that were tried, in order.
        searched: Vec<PathBuf>,
    },
    /// The library may be there, but this user cannot read it.
    #[error(
        "cannot read the engine library {}: {source}; make it and the folders above it readable for this user, or set FLOW_LIBCHDB to a copy that is", path.display()
    )]
    LibraryUnreadable {
        /// The library.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The library is there but cannot be opened or lacks a function.
    #[error(
        "cannot use the engine library {}: {reason}; run `cargo xtask setup`, or set FLOW_LIBCHDB to libchdb {}", path.display(), super::library::VERSION
    )]
    LibraryBroken {
        /// The library.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// The engine's configuration cannot be found.
    #[error("cannot open the engine's configuration {}: {source}; give a file that is there with --config-file", path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The library is of another release.
    #[error(
        "the engine library {} is libchdb {version}, and this agent is made for {}; run `cargo xtask setup`, or set FLOW_LIBCHDB to that version", path.display(), super::library::VERSION
    )]
    LibraryVersion {
        /// The library.
        path: PathBuf,
        /// What it says it is.
        version: String,
    },
    /// The address is taken.
    #[error(
        "cannot listen on {listen}: another program listens there; stop it, or choose another port with --listen (port 0 picks a free one)"
    )]
    PortInUse {
        /// The address asked for.
        listen: SocketAddr,
    },
    /// The address cannot be used for another reason.
    #[error("cannot listen on {listen}: {source}; choose another address with --listen")]
    Listen {
        /// The address asked for.
        listen: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The address is not loopback and nobody said that is wanted.
    #[error(
        "refusing to listen on {listen}: the store has no passwords and no TLS, and other hosts could reach it there; use a loopback address, or add --allow-remote if the network is trusted"
    )]
    NotLoopback {
        /// The address asked for.
        listen: SocketAddr,
    },
    /// The data folder cannot be made or written.
    #[error(
        "cannot use the data folder {} as user {uid}: {source}; choose another (--dir DIR, or embedded:DIR), or make it writable for this user", dir.display()
    )]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// Who cannot.
        uid: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The data folder is a file.
    #[error(
        "the data folder {} is a file; choose an empty or new folder (--dir DIR, or embedded:DIR)", dir.display()
    )]
    NotAFolder {
        /// The file.
        dir: PathBuf,
    },
    /// The folder should have a store already.
    #[error(
        "there is no store in the folder {}; write the folder of one, or make one with `flow-agent schema apply --store embedded:{}`", dir.display(), dir.display()
    )]
    NoStore {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder holds something that is not a store.
    #[error(
        "{} is not empty and is not a flow-agent store; choose an empty or new folder (--dir DIR, or embedded:DIR)", dir.display()
    )]
    ForeignFolder {
        /// The folder.
        dir: PathBuf,
    },
    /// A newer engine has had the folder open.
    #[error(
        "the store in {} was made by {made}, newer than this one ({known}); use an agent and engine that are as new, or another folder", dir.display()
    )]
    NewerFolder {
        /// The folder.
        dir: PathBuf,
        /// Who made it.
        made: String,
        /// What this one knows.
        known: String,
    },
    /// Another store has the folder open.
    #[error(
        "the data folder {} is in use by process {pid}; stop it, or choose another folder (--dir DIR, or embedded:DIR)", dir.display()
    )]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// The process that holds it, as written in its lock file.
        pid: String,
    },
    /// The engine refused to open the folder.
    #[error(
        "the ClickHouse engine cannot open {}: {reason}; the folder may come from a newer version, be damaged, or the disk be full", dir.display()
    )]
    Engine {
        /// The folder.
        dir: PathBuf,
        /// What the engine said.
        reason: String,
    },
    /// Statements were still running when the time to stop was over.
    #[error(
        "{running} statements did not end within {seconds} s; the store ends without a clean close, and its tables recover at the next start"
    )]
    StillRunning {
        /// How many.
        running: usize,
        /// How long was waited.
        seconds: u64,
    },
    /// The operating system refused something that should always work.
    #[error("the store cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The child process could not be started, or ended without a word.
    #[error("the embedded store did not start: {reason} ({})", program.display())]
    ChildStart {
        /// The executable.
        program: PathBuf,
        /// What happened.
        reason: String,
        /// What that means for the parent.
        exit: Exit,
    },
    /// The child process said why it does not start.
    #[error("{reason}")]
    ChildRefused {
        /// Its own words.
        reason: String,
        /// Its exit code.
        exit: Exit,
    },
    /// The child process ended with a failure when it was told to stop.
    #[error("the store process {pid} ended badly ({status}): {reason}")]
    ChildFailed {
        /// Its process id.
        pid: u32,
        /// Its exit status.
        status: String,
        /// Its last words on standard error.
        reason: String,
    },
    /// The child process does not end.
    #[error(
        "the store process {pid} did not stop within {seconds} s; it may still be writing: wait for it, then `kill -9 {pid}`"
    )]
    ChildStuck {
        /// Its process id.
        pid: u32,
        /// How long was waited.
        seconds: u64,
    },
}

impl StoreError {
    /// The process exit code for this error.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Folder { source, .. } | Self::Listen { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Exit::Privilege
            }
            Self::LibraryUnreadable { .. } => Exit::Privilege,
            Self::LibraryMissing { .. }
            | Self::LibraryBroken { .. }
            | Self::ConfigFile { .. }
            | Self::LibraryVersion { .. }
            | Self::NotLoopback { .. }
            | Self::ForeignFolder { .. }
            | Self::NewerFolder { .. }
            | Self::NotAFolder { .. }
            | Self::NoStore { .. }
            | Self::Folder { .. }
            | Self::Listen { .. } => Exit::Usage,
            Self::ChildStart { exit, .. } | Self::ChildRefused { exit, .. } => *exit,
            Self::PortInUse { .. }
            | Self::InUse { .. }
            | Self::Engine { .. }
            | Self::StillRunning { .. }
            | Self::System { .. }
            | Self::ChildFailed { .. }
            | Self::ChildStuck { .. } => Exit::Failed,
        }
    }
}
