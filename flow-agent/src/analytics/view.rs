//! What others may know of the analytics, without making them wait: a snapshot every few seconds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::bounded::Size;
use super::devices::DeviceRow;
use super::episodes::KindCount;
use super::event::{Event, Severity, ip};
use super::top::TopView;

/// Everything there is to show, as it was at `ts_ns`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Snapshot {
    /// When it was taken, Unix ns.
    pub ts_ns: u64,
    /// True while devices and listeners are only learned.
    pub learning: bool,
    /// Records that were looked at.
    pub records: u64,
    /// Events by kind.
    pub events: BTreeMap<&'static str, KindCount>,
    /// The last events, newest first.
    pub recent: Vec<EventView>,
    /// Who talks most.
    pub top: TopView,
    /// The devices seen last.
    #[serde(serialize_with = "as_list")]
    pub devices: Arc<Vec<DeviceRow>>,
    /// How full every bounded structure is.
    pub sizes: Vec<Size>,
}

fn as_list<S: serde::Serializer>(
    devices: &Arc<Vec<DeviceRow>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(devices.iter())
}

/// An event for people.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "as in the table events")]
pub struct EventView {
    pub id: String,
    pub ts_ns: u64,
    pub kind: &'static str,
    pub severity: Severity,
    pub interface: String,
    pub src: String,
    pub dst: String,
    pub port: u16,
    pub protocol: u8,
    pub count: u64,
    pub first_ns: u64,
    pub last_ns: u64,
    pub message: String,
}

impl From<&Event> for EventView {
    fn from(event: &Event) -> Self {
        let finding = &event.finding;
        Self {
            id: event.id.to_string(),
            ts_ns: event.ts_ns,
            kind: finding.kind.label(),
            severity: finding.severity,
            interface: finding.interface.to_string(),
            src: ip(finding.src).to_string(),
            dst: ip(finding.dst).to_string(),
            port: finding.port,
            protocol: finding.protocol,
            count: finding.count,
            first_ns: finding.first_ns,
            last_ns: finding.last_ns,
            message: event.message.clone(),
        }
    }
}

/// Plain counters beside the snapshot.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Records that were not looked at because the thread could not keep up.
    pub skipped: AtomicU64,
    /// Records that wait.
    pub waiting: AtomicUsize,
    /// Rows that were dropped because the store was away for too long.
    pub dropped_rows: AtomicU64,
    /// Rows that the store has acknowledged.
    pub stored_rows: AtomicU64,
    /// Threads that have panicked.
    pub failures: AtomicU64,
}

/// Says once, by its end, that the thread that holds it has panicked.
#[derive(Debug)]
pub(super) struct Watch {
    /// Where it is counted.
    pub view: View,
    /// What the agent goes on without.
    pub without: &'static str,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.view.counters.failures.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                "a panic has ended {}: this is a bug, please report it; flows are metered and \
                 stored as before, and a restart of the agent brings them back",
                self.without
            );
        }
    }
}

/// A handle that is cheap to clone and never waits for a detector.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub(super) counters: Arc<Counters>,
    snapshot: Arc<Mutex<Arc<Snapshot>>>,
}

impl View {
    /// The last snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records that were not looked at because the analytics could not keep up
    /// (metric `flow_agent_analytics_skipped_records_total`).
    pub fn skipped(&self) -> u64 {
        self.counters.skipped.load(Ordering::Relaxed)
    }

    /// Rows of events and devices that were dropped: the store was away for too long.
    pub fn dropped_rows(&self) -> u64 {
        self.counters.dropped_rows.load(Ordering::Relaxed)
    }

    /// Rows of events and devices that the store has acknowledged.
    pub fn stored_rows(&self) -> u64 {
        self.counters.stored_rows.load(Ordering::Relaxed)
    }

    /// Threads of the analytics that have ended by a panic; flows go on without them.
    pub fn failures(&self) -> u64 {
        self.counters.failures.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, snapshot: Snapshot) {
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }
}
