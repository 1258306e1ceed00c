//! The embedded store as the rest of the agent has it: enters an executable
//! and a data folder, leaves a URL and a password. What must hold: both stay
//! the same for as long as this lives, also when the process is started again.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use super::StoreError;
use super::child::{Child, Launch};
use super::credentials::{Key, USER};

/// A free port of the loopback address.
const ANY_PORT: &str = "127.0.0.1:0";

/// A store in a process of its own, for this process alone.
#[derive(Debug)]
pub struct EmbeddedStore {
    launch: Launch,
    child: Child,
    /// Whether the end of the child was logged.
    noticed: bool,
}

impl EmbeddedStore {
    /// The user that it serves.
    pub const USER: &str = USER;

    /// Starts `program store --dir DIR` on a free loopback port and waits until it serves.
    pub fn start(program: &Path, dir: &Path, deadline: Duration) -> Result<Self, StoreError> {
        let key =
            Key::draw().map_err(|source| StoreError::System { action: "draw its key", source })?;
        let (program, dir) = (program.to_owned(), dir.to_owned());
        let launch = Launch { program, dir, key, deadline };
        let child = Child::start(&launch, ANY_PORT)?;
        Ok(Self { launch, child, noticed: false })
    }

    /// Starts it again if it has ended (killed, out of memory): on the same
    /// folder, port and password. True if it was started again; an error if it
    /// cannot be now, and the next call tries again.
    pub fn ensure_running(&mut self) -> Result<bool, StoreError> {
        let Some(status) = self.child.ended()? else { return Ok(false) };
        if !self.noticed {
            self.noticed = true;
            tracing::warn!(
                pid = self.child.pid(),
                last_words = self.child.words(),
                "the embedded store ended ({status}); starting it again"
            );
        }
        let url = self.child.url();
        let listen = url.strip_prefix("http://").unwrap_or(url);
        self.child = Child::start(&self.launch, listen)?;
        self.noticed = false;
        Ok(true)
    }

    /// Where it serves.
    pub fn url(&self) -> &str {
        self.child.url()
    }

    /// The password of that user, drawn at the start.
    pub fn password(&self) -> &str {
        self.launch.key.secret()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Readable once its process has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd()
    }

    /// Ends it and waits until all data is written.
    pub fn stop(self, deadline: Duration) -> Result<(), StoreError> {
        self.child.stop(deadline)
    }
}
