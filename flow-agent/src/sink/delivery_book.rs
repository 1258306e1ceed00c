//! What delivery does and has done, for the status.
//!
//! Written by the delivery, read by whoever asks. It holds that every insert and every doubt is
//! counted with its outcome.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::class::Class;

/// How one insert ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum InsertOutcome {
    /// The server accepted it.
    #[default]
    Accepted,
    /// It never left this host.
    NotSent,
    /// The answer told of something that may pass, or there was none.
    Failed,
    /// Somebody has to do something first.
    Held,
    /// The rows were refused.
    Refused,
}

impl InsertOutcome {
    /// Every outcome.
    pub const ALL: [Self; 5] =
        [Self::Accepted, Self::NotSent, Self::Failed, Self::Held, Self::Refused];

    /// The label in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::NotSent => "not_sent",
            Self::Failed => "failed",
            Self::Held => "held",
            Self::Refused => "refused",
        }
    }
}

impl From<Class> for InsertOutcome {
    fn from(class: Class) -> Self {
        match class {
            Class::NotSent => Self::NotSent,
            Class::Transient => Self::Failed,
            Class::Held => Self::Held,
            Class::Rows => Self::Refused,
        }
    }
}

/// How a doubt whether the store has a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// It had the batch.
    Stored,
    /// It had not, and has it now.
    Sent,
    /// A rollup, or the table, had missed it.
    Repaired,
    /// It has refused the rows.
    Refused,
    /// It has something else, and the batch is in quarantine.
    Stuck,
    /// The agent had to end first.
    Open,
}

impl Doubt {
    /// Every end.
    pub const ALL: [Self; 6] =
        [Self::Stored, Self::Sent, Self::Repaired, Self::Refused, Self::Stuck, Self::Open];

    /// The label in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Sent => "sent",
            Self::Repaired => "repaired",
            Self::Refused => "refused",
            Self::Stuck => "stuck",
            Self::Open => "open",
        }
    }
}

/// Everything that was counted since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryFigures {
    /// Inserts, by how they ended.
    pub inserts: BTreeMap<InsertOutcome, u64>,
    /// Doubts, by how they ended.
    pub doubts: BTreeMap<Doubt, u64>,
    /// Steps that were tried again, by why.
    pub retries: BTreeMap<&'static str, u64>,
    /// Batches that are being delivered now.
    pub in_flight: u64,
    /// Batches whose rows the store has.
    pub acknowledged_batches: u64,
    /// Their rows.
    pub acknowledged_rows: u64,
    /// Rows in quarantine since the start.
    pub quarantined_rows: u64,
    /// When a batch was last acknowledged, Unix ns; the start, before that.
    pub last_acknowledged_ns: u64,
    /// What keeps all batches back until somebody does something.
    pub held: Option<String>,
    /// What the last try failed with, until one succeeds.
    pub failing: Option<String>,
}

/// Clones share what is in it.
#[derive(Clone, Debug, Default)]
pub struct DeliveryBook(Arc<Mutex<DeliveryFigures>>);

impl DeliveryBook {
    /// Begins at this time, Unix ns.
    pub fn new(now_ns: u64) -> Self {
        let figures =
            DeliveryFigures { last_acknowledged_ns: now_ns, ..DeliveryFigures::default() };
        Self(Arc::new(Mutex::new(figures)))
    }

    /// The figures now.
    pub fn figures(&self) -> DeliveryFigures {
        self.lock().clone()
    }

    pub(super) fn began(&self) {
        self.lock().in_flight += 1;
    }

    pub(super) fn ended(&self) {
        self.lock().in_flight -= 1;
    }

    pub(super) fn acknowledged(&self, rows: u64, now_ns: u64) {
        let mut figures = self.lock();
        figures.acknowledged_batches += 1;
        figures.acknowledged_rows += rows;
        figures.last_acknowledged_ns = figures.last_acknowledged_ns.max(now_ns);
        figures.held = None;
        figures.failing = None;
    }

    pub(super) fn quarantined(&self, rows: u64) {
        self.lock().quarantined_rows += rows;
    }

    pub(super) fn inserted(&self, outcome: InsertOutcome) {
        *self.lock().inserts.entry(outcome).or_default() += 1;
    }

    pub(super) fn doubt(&self, end: Doubt) {
        *self.lock().doubts.entry(end).or_default() += 1;
    }

    pub(super) fn failed(&self, reason: &'static str, class: Class, problem: &str) {
        let mut figures = self.lock();
        *figures.retries.entry(reason).or_default() += 1;
        figures.failing = Some(problem.to_owned());
        figures.held = (class == Class::Held).then(|| problem.to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, DeliveryFigures> {
        // Figures are valid between any two of its operations.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
