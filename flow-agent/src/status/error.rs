//! Why the status cannot be served or asked for.

use std::io;
use std::net::SocketAddr;

use crate::Exit;

/// An error of the server or of a command that asks it.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message says what each field is")]
pub enum StatusError {
    /// Somebody has the port.
    #[error(
        "the status cannot be served at {listen}: the address is in use, perhaps by another \
         flow-agent; choose another listen of [status], or \"\" for none"
    )]
    InUse { listen: SocketAddr },
    /// Another reason.
    #[error("the status cannot be served at {listen}: {source}")]
    Listen { listen: SocketAddr, source: io::Error },
    /// A file of the configuration cannot be used.
    #[error("{what} {path} cannot be used: {problem}")]
    File { what: &'static str, path: String, problem: String },
    /// Nobody serves it.
    #[error(
        "no flow-agent answers at {address}: {problem}; start one with `flow-agent run`, or say \
         where its status is: --status ADDR, or --config with the file it was started with"
    )]
    NoAgent { address: SocketAddr, problem: String },
    /// It cannot be trusted, or speaks no TLS.
    #[error(
        "the agent at {address} cannot be asked over TLS: {problem}; its certificate must be for \
         this address and from an authority of --status-ca-file"
    )]
    Tls { address: SocketAddr, problem: String },
    /// It is switched off.
    #[error("{path} switches the status off (listen of [status] is empty): nobody can be asked")]
    Off { path: String },
    /// No answer.
    #[error("the agent at {address} has not answered for {seconds} s")]
    Silent { address: SocketAddr, seconds: u64 },
    /// What answers is no agent, or a newer one.
    #[error("what answers at {address} is no flow-agent of this version: {problem}")]
    NotUnderstood { address: SocketAddr, problem: String },
    /// The agent says no: its own sentence.
    #[error("{problem}")]
    Refused { problem: String, usage: bool },
    /// An argument cannot be understood.
    #[error("{problem}")]
    Usage { problem: String },
}

impl StatusError {
    /// The process exit code for this error.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Exit::Privilege
            }
            Self::Listen { .. }
            | Self::Off { .. }
            | Self::Usage { .. }
            | Self::File { .. }
            | Self::Refused { usage: true, .. } => Exit::Usage,
            Self::InUse { .. }
            | Self::NoAgent { .. }
            | Self::Tls { .. }
            | Self::Silent { .. }
            | Self::NotUnderstood { .. }
            | Self::Refused { usage: false, .. } => Exit::Failed,
        }
    }
}
