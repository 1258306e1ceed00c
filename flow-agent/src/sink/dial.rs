//! Why a connection to the store could not be made; nothing was sent then.

use std::io;
use std::time::Duration;

/// The reason, inside the [`io::Error`] that the HTTP client is given.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody knows the name.
    #[error("its name cannot be looked up: {0}")]
    LookUp(io::Error),
    /// TCP.
    #[error("{0}")]
    Tcp(io::Error),
    /// TCP, TLS or a name server take too long.
    #[error("no connection within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// TLS: the server is not believed, or does not believe the agent.
    #[error("{0}")]
    Tls(io::Error),
}

impl From<DialError> for io::Error {
    fn from(error: DialError) -> Self {
        Self::other(error)
    }
}
