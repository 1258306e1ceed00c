//! The octets of a state file enter, what the agent would remember leaves.

use super::file::{StateError, StateFile, serialize};
use super::part::{State, decode};
use crate::cache::Initiator;
use crate::enrich::{Listener, Seen};

/// Reads a file's octets.
///
/// # Errors
/// Why they are not used.
pub fn parse(octets: &[u8]) -> Result<State, StateError> {
    StateFile::new("fuzz").parse(octets)
}

/// The octets of a file.
pub fn octets(state: &State) -> Vec<u8> {
    serialize(state)
}

/// Reads what a part remembers: how many initiators or listening ports; none for another part.
///
/// # Errors
/// Why it is not used.
pub fn part(name: &str, octets: &[u8]) -> Result<Option<usize>, String> {
    match name {
        "initiators" => decode::<Vec<Initiator>>(octets).map(|found| Some(found.len())),
        "listeners" => decode::<Vec<(Listener, Seen)>>(octets).map(|found| Some(found.len())),
        _ => Ok(None),
    }
}
