//! The fault suite: every fault has a name in one catalogue, and every test of one leaves a record.
//!
//! Enters: the name of a fault, the proof that it really happened, and what was sent. Leaves: a
//! file in `target/faults`, written only after what is stored, in rows and in every rollup, and
//! what the ledger says agree with what was sent. `cargo xtask test --faults` runs the suite and
//! makes `docs/faults.md` of the records ([`report`]); a fault without a record is a failure.

mod catalogue;
mod outcome;
mod record;
pub mod report;
mod row;

pub use catalogue::{CATALOGUE, Named};
pub use outcome::Outcome;
pub use record::{Record, folder, record};
pub use row::Row;

/// True in the whole suite (`FLOW_ALL_FAULTS`); CI runs a bounded part of some tests.
pub fn all() -> bool {
    crate::setting("FLOW_ALL_FAULTS", 0) != 0
}

/// Of these cases all in the whole suite, else the first so many.
pub fn chosen<T>(cases: &[T], in_ci: usize) -> &[T] {
    if all() { cases } else { &cases[..in_ci.min(cases.len())] }
}
