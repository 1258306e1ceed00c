//! Memory pressure: makes the cache smaller while memory is short, and larger again later.
//!
//! Enters: what the system says of memory ([`Reader`]). Leaves: how many flows may be open
//! ([`Controller`], applied by [`Pressure`]). It holds that the cache is never made smaller
//! than the floor nor larger than configured, and that nothing is lost: what has no place
//! any more is emitted.

mod controller;
mod reader;
mod watch;

pub use controller::{Controller, PressureLimits, Reading, Step};
pub use reader::{Reader, Source};
pub use watch::{Pressure, PressureBook, PressureState, Resizable};
