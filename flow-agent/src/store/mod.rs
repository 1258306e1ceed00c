//! The embedded store: ClickHouse as a library behind its own HTTP interface.

use crate::Exit;

/// Why the store cannot start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {}

impl StoreError {
    /// The process exit code for this error.
    pub fn exit(&self) -> Exit {
        match *self {}
    }
}
