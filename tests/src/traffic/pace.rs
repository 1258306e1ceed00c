//! Keeps to a rate.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Bursts a second.
const BURSTS: u64 = 100;

/// Calls `send` with 0, 1, 2 and so on, so often a second, as long as told; returns how often.
pub fn paced(
    per_second: u64,
    seconds: u64,
    mut send: impl FnMut(u64) -> Result<()>,
) -> Result<u64> {
    let started = Instant::now();
    // Nobody sends: receiving is waiting.
    let (_sender, never) = mpsc::channel::<()>();
    let mut sent = 0;
    for burst in 1..=seconds * BURSTS {
        while sent < burst * per_second / BURSTS {
            send(sent)?;
            sent += 1;
        }
        let due = started + Duration::from_secs(1) * burst as u32 / BURSTS as u32;
        let _ = never.recv_timeout(due.saturating_duration_since(Instant::now()));
    }
    Ok(sent)
}
