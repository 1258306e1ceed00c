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

/// Stand-in while the store is being merged.
pub struct EmbeddedStore;
impl EmbeddedStore {
    /// x
    pub fn start(_e: &std::path::Path, _d: &std::path::Path) -> Result<Self, StoreError> { Ok(Self) }
    /// x
    pub fn url(&self) -> &str { "" }
    /// x
    pub fn stop(self) -> Result<(), StoreError> { Ok(()) }
}
