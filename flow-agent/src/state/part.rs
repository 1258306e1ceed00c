//! A part of the agent that has something to remember, and what all of them remember.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A part of the agent that has something to remember. It is asked on a thread of its own, which
/// may wait a little; nothing else waits for that thread.
pub trait Part: Send {
    /// What it is called in the file.
    fn name(&self) -> &'static str;

    /// The version of its octets; those of another version are not given back.
    fn version(&self) -> u32;

    /// What is to be remembered now; none if that cannot be said, then what was said last stays.
    fn save(&mut self) -> Option<Vec<u8>>;

    /// What was remembered of before the start, at `saved_at_ns` (Unix).
    ///
    /// # Errors
    /// It cannot be read; the part begins as if there were nothing.
    fn restore(&mut self, octets: &[u8], saved_at_ns: u64) -> Result<(), String>;
}

/// The octets of a value, for [`Part::save`]; none if it has no such form.
pub fn encode<T: Serialize>(value: &T) -> Option<Vec<u8>> {
    postcard::to_stdvec(value).ok()
}

/// The value of octets, for [`Part::restore`].
///
/// # Errors
/// They are those of something else.
pub fn decode<T: DeserializeOwned>(octets: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(octets) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(format!("{} octets are left over", rest.len())),
        Err(error) => Err(error.to_string()),
    }
}

/// What all parts remember.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// When it was saved, Unix ns.
    pub saved_at_ns: u64,
    /// Version and octets of each part, by name.
    pub parts: BTreeMap<String, (u32, Vec<u8>)>,
}
