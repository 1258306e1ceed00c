//! The list of what is metered, for whoever asks: written by the hooks.

use std::sync::{Arc, PoisonError, RwLock};

/// An interface that is metered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeteredInterface {
    /// As in the rows.
    pub name: String,
    /// The agent's number for it.
    pub number: u16,
    /// The kernel's index of it, in its namespace.
    pub ifindex: u32,
    /// How incoming packets are metered.
    pub ingress: &'static str,
}

/// An interface that refuses to be metered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedInterface {
    /// As it would be in the rows.
    pub name: String,
    /// One sentence.
    pub why: String,
}

/// What is metered at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeteredList {
    /// Sorted by namespace and index.
    pub metered: Vec<MeteredInterface>,
    /// Asked again every 10 s.
    pub refused: Vec<RefusedInterface>,
}

/// The list as it is now; clones share it.
#[derive(Clone, Debug, Default)]
pub struct MeteredBook(Arc<RwLock<Arc<MeteredList>>>);

impl MeteredBook {
    /// The list now; it stays as it is in the copy.
    pub fn current(&self) -> Arc<MeteredList> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, list: MeteredList) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(list);
    }
}
