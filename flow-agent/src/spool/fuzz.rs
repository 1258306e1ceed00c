//! A spool's files enter, the batches that the next agent would be handed leave.

use std::sync::Arc;

use super::SpoolError;
use super::file_system::FileSystem;
use super::recovery::{Recovered, prepare};
use super::settings::{Fsync, Full, SpoolSettings};
use crate::frozen::FrozenBatch;

pub use super::codec::checksum;

fn settings() -> SpoolSettings {
    SpoolSettings {
        dir: Some("fuzz".into()),
        max_octets: 1 << 30,
        memory_octets: 1 << 20,
        full: Full::DropOldest,
        fsync: Fsync::Never,
        segment_octets: 16 << 10,
    }
}

/// Writes batches, as an agent does; true if all are in the files.
///
/// # Errors
/// As [`recover`].
pub fn store(files: Arc<dyn FileSystem>, batches: &[FrozenBatch]) -> Result<bool, SpoolError> {
    let (shared, _) = prepare(&settings(), Some(files), &[])?;
    Ok(batches.iter().all(|batch| shared.put(&Arc::new(batch.clone()), &mut Vec::new()).is_ok()))
}

/// Opens what is in the files, as the next agent does: the batches that can be read, in their
/// order, and what the agent would say of all.
///
/// # Errors
/// The file system refuses something.
pub fn recover(
    files: Arc<dyn FileSystem>,
) -> Result<(Vec<Arc<FrozenBatch>>, Recovered), SpoolError> {
    let (shared, recovered) = prepare(&settings(), Some(files), &[])?;
    let batches = shared.numbers().into_iter().filter_map(|number| shared.peek(number));
    Ok((batches.collect(), recovered))
}
