//! How often each fault has happened.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts by [`super::Fault::name`]; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Fired(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Fired {
    /// One more.
    pub(super) fn add(&self, name: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
    }

    /// How often this one has.
    pub fn of(&self, name: &str) -> u64 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(name).copied().unwrap_or_default()
    }

    /// All that have.
    pub fn all(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The sum.
    pub fn total(&self) -> u64 {
        self.all().values().sum()
    }
}
