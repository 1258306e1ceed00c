//! The configuration in force, shared between the thread that changes it and the status.

use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Value, json};

use super::effective::Effective;

/// What the status shows of the configuration; clones share it.
#[derive(Clone, Debug, Default)]
pub struct ConfigBook(Arc<RwLock<Page>>);

#[derive(Debug, Default)]
struct Page {
    file: Option<String>,
    effective: Effective,
    reloads: u64,
    refusals: u64,
    /// What is wrong with the file that was read last; nothing was taken over from it.
    refused: Vec<String>,
}

impl ConfigBook {
    /// Of an agent that has started with this.
    pub fn new(file: Option<String>, effective: Effective) -> Self {
        Self(Arc::new(RwLock::new(Page {
            file,
            effective,
            reloads: 0,
            refusals: 0,
            refused: Vec::new(),
        })))
    }

    /// Now this is in force.
    pub fn set(&self, effective: Effective) {
        let mut page = self.0.write().unwrap_or_else(PoisonError::into_inner);
        page.effective = effective;
        page.reloads += 1;
        page.refused.clear();
    }

    /// A file was read that cannot be used.
    pub fn refuse(&self, problems: Vec<String>) {
        let mut page = self.0.write().unwrap_or_else(PoisonError::into_inner);
        page.refusals += 1;
        page.refused = problems;
    }

    /// `/api/v1/config`.
    pub fn page(&self) -> Value {
        let page = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut json = page.effective.json();
        merge(&mut json, page.summary());
        json
    }

    /// The same without the keys, for `/api/v1/status`.
    pub fn summary(&self) -> Value {
        self.0.read().unwrap_or_else(PoisonError::into_inner).summary()
    }
}

impl Page {
    fn summary(&self) -> Value {
        json!({
            "file": self.file,
            "reloads": self.reloads,
            "refusals": self.refusals,
            "needs_restart": self.effective.needs_restart,
            "refused": self.refused,
        })
    }
}

fn merge(page: &mut Value, more: Value) {
    if let (Value::Object(page), Value::Object(more)) = (page, more) {
        page.extend(more);
    }
}
