//! The wall clock, read in one place and passed on as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time in ns; 0 before 1970.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn wall_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
