//! What a command prints: octets enter, an error leaves when they could not be written.

use std::io::{self, Write};

use flow_agent::sink::SinkError;

/// The standard output, until its reader goes away or it fails.
#[derive(Debug, Default)]
pub struct StandardOutput {
    octets: u64,
    failure: Option<io::Error>,
}

impl StandardOutput {
    /// Writes; false when there is no use in writing more.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        self.octets += bytes.len() as u64;
        if self.failure.is_none() {
            self.failure = io::stdout().write_all(bytes).err();
        }
        self.failure.is_none()
    }

    /// True when nothing was printed.
    pub fn is_untouched(&self) -> bool {
        self.octets == 0
    }

    /// Writes what is buffered.
    ///
    /// # Errors
    /// Not everything was written, and its reader had not gone away (`head`, `less`).
    pub fn finish(self) -> Result<(), flow_agent::Error> {
        match self.failure.map_or_else(|| io::stdout().flush(), Err) {
            Err(source) if source.kind() != io::ErrorKind::BrokenPipe => {
                Err(SinkError::Output { path: "standard output".into(), source }.into())
            }
            _ => Ok(()),
        }
    }
}
