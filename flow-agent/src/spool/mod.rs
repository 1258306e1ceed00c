//! The spool: frozen batches enter, and leave when the store has them.
pub mod file_system;

mod codec;
mod contents;
mod core;
mod disk;
mod error;
mod folder;
mod index;
mod pending;
mod reader;
mod record;
mod recovery;
mod scan;
mod segment;
mod settings;
mod shared;
mod status;
mod syncer;
mod writer;

pub use contents::{Contents, LossReason, Losses};
pub use error::SpoolError;
pub use folder::Folder;
pub use pending::Pending;
pub use reader::SpoolReader;
pub use recovery::{Recovered, Spool};
pub use settings::{Fsync, Full, SpoolSettings, Waits};
pub use status::{SpoolFigures, SpoolStatus};
pub use writer::{Appended, Kept, SpoolWriter};

#[cfg(test)]
mod tests;
