//! Profiles of the running agent, when the configuration switches them on.
//!
//! A time enters; stacks of what used the CPU leave, as pprof's protocol buffer, or what the
//! allocator says. Nothing is measured while nobody asks.

use std::time::Duration;

use malloc_info::info::{AspaceType, SystemType, TotalType};
use pprof::ProfilerGuardBuilder;
use pprof::protos::Message;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Mutex, TryLockError};

use super::StatusError;

/// Looks a second: no multiple of what timers have.
const HERTZ: i32 = 99;
/// The longest profile, and the usual one, in seconds.
pub const MOST_SECONDS: u64 = 60;
/// See [`MOST_SECONDS`].
pub const USUAL_SECONDS: u64 = 10;

/// Makes profiles, one at a time.
pub struct Profiler {
    switched_on: bool,
    /// Locked while a profile is made. The crate keeps a file of stacks, which it never removes
    /// by itself, in here: from the first profile to the end of the agent.
    folder: Mutex<Option<TempDir>>,
}

impl Profiler {
    /// One that may be asked if it is `switched_on`.
    pub fn new(switched_on: bool) -> Self {
        Self { switched_on, folder: Mutex::new(None) }
    }

    /// Whether it may be asked.
    pub fn is_on(&self) -> bool {
        self.switched_on
    }

    /// What used the CPU in the next `time`: pprof's protocol buffer.
    ///
    /// # Errors
    /// Another profile is being made, or the system refuses.
    pub async fn cpu(&self, time: Duration) -> Result<Vec<u8>, StatusError> {
        let busy = |_: TryLockError| {
            refused("a profile is being made already; ask again when it is done".into())
        };
        let mut folder = self.folder.try_lock().map_err(busy)?;
        if folder.is_none() {
            *folder = Some(folder_for_stacks()?);
        }
        // Reading where all libraries are takes a while, which nobody else who asks shall wait.
        let started = tokio::task::spawn_blocking(|| {
            // Libraries that hold locks while they are looked at must not be unwound.
            ProfilerGuardBuilder::default()
                .frequency(HERTZ)
                .blocklist(&["libc", "libgcc", "pthread", "vdso", "libchdb"])
                .build()
                .map_err(|error| error.to_string())
        });
        let guard = started
            .await
            .unwrap_or_else(|error| Err(error.to_string()))
            .map_err(|problem| refused(format!("the profiler does not start: {problem}")))?;
        // If the client goes away, so do this future and the guard, which ends the profiling.
        tokio::time::sleep(time).await;
        let encoded = tokio::task::spawn_blocking(move || {
            let report = guard.report().build().map_err(|error| error.to_string())?;
            drop(guard);
            let profile = report.pprof().map_err(|error| error.to_string())?;
            profile.write_to_bytes().map_err(|error| error.to_string())
        });
        let encoded = encoded.await.unwrap_or_else(|error| Err(error.to_string()));
        encoded.map_err(|problem| refused(format!("the profile cannot be made: {problem}")))
    }
}

/// What glibc's allocator says: of all arenas together, and how many they are.
///
/// # Errors
/// It does not say.
pub fn heap() -> Result<Value, StatusError> {
    let info = malloc_info::malloc_info()
        .map_err(|error| refused(format!("the allocator does not say: {error}")))?;
    let total = |wanted: &TotalType| {
        let found = info.total.iter().find(|total| total.r#type == *wanted);
        found.map_or((0, 0), |total| (total.count, total.size))
    };
    let system = |wanted: &SystemType| {
        info.system.iter().find(|system| system.r#type == *wanted).map_or(0, |system| system.size)
    };
    let mapped = info.aspace.iter().find(|space| space.r#type == AspaceType::Total);
    let [(fast_chunks, fast), (free_chunks, free), (large, large_bytes)] =
        [TotalType::Fast, TotalType::Rest, TotalType::Mmap].map(|wanted| total(&wanted));
    let arenas_bytes = system(&SystemType::Current);
    Ok(json!({
        "allocator": "glibc",
        "arenas": info.heaps.len(),
        "arenas_bytes": arenas_bytes,
        "arenas_most_bytes": system(&SystemType::Max),
        "arenas_mapped_bytes": mapped.map_or(0, |space| space.size),
        "free_chunks": fast_chunks + free_chunks,
        "free_bytes": fast + free,
        "large_blocks": large,
        "large_bytes": large_bytes,
        "in_use_bytes": (arenas_bytes + large_bytes).saturating_sub(fast + free),
    }))
}

/// A folder for the crate's file, which has no other way to say where that is to be.
fn folder_for_stacks() -> Result<TempDir, StatusError> {
    let made = tempfile::Builder::new().prefix("flow-agent-pprof-").tempdir();
    let made = made.map_err(|error| refused(format!("no folder for stacks: {error}")))?;
    // Said once in a process, which is how often there is a server. All else says its folder.
    let _ = tempfile::env::override_temp_dir(made.path());
    Ok(made)
}

fn refused(problem: String) -> StatusError {
    StatusError::Refused { problem, usage: false }
}
