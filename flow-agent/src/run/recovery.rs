//! Recovery: what agents that were killed had counted becomes records of this one.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::books::post;
use crate::attach::{Numbers, PinFolder};
use crate::cache::Intake;
use crate::clock::wall_clock;
use crate::drain::{Drain, DrainError, FlowEntry, Leftover};
use crate::ledger::Ledger;

/// Takes over every folder of a dead agent under `parent`. What cannot be read stays
/// and is named.
pub fn recover(
    parent: &Path,
    drain: &mut Drain,
    intake: &mut Intake,
    numbers: &mut Numbers,
    ledger: &Ledger,
) {
    let folders = match PinFolder::abandoned(parent) {
        Ok(folders) => folders,
        Err(error) => {
            tracing::warn!("what a killed agent had counted cannot be read: {error}");
            return;
        }
    };
    for folder in folders {
        let path = folder.path().display().to_string();
        match take_over(&folder, drain, intake, numbers, ledger) {
            Ok(packets) => {
                tracing::info!("{path}: {packets} packets of an agent that was killed");
                if let Err(error) = folder.remove() {
                    tracing::warn!("{error}");
                }
            }
            Err(error) => tracing::warn!(
                "{path}: what a killed agent had counted cannot be read: {error}; \
                 remove the folder to free its memory"
            ),
        }
    }
}

/// Packets that were seen and are now in the books.
fn take_over(
    folder: &PinFolder,
    drain: &mut Drain,
    intake: &mut Intake,
    numbers: &mut Numbers,
    ledger: &Ledger,
) -> Result<u64, DrainError> {
    let mut leftover = Leftover::open(folder)?;
    let clock = drain.clock(wall_clock)?;
    // Its numbers become numbers of this agent, which rest afterwards like those of
    // interfaces that have gone. Without a free one the interface is unknown.
    let mut translated = Vec::new();
    for name in leftover.names()? {
        let number = if name.is_empty() { None } else { numbers.take(&name, Instant::now()) };
        translated.push(number.unwrap_or(0));
    }
    let mut last = None;
    let books = leftover.read(&clock, |entry, interval| {
        let mut hot = *entry.hot;
        hot.key.interface = translated.get(usize::from(hot.key.interface)).copied().unwrap_or(0);
        intake.add(FlowEntry { hot: &hot, ..entry }, interval);
        last = Some(*interval);
    })?;
    if let Some(interval) = last {
        intake.flush(&interval);
    }
    let now = Instant::now();
    for number in translated.into_iter().filter(|number| *number != 0) {
        numbers.give_back(number, now);
    }
    let mut packets = 0;
    for (name, balance) in books {
        packets += balance.seen.packets;
        let name: Arc<str> = if name.is_empty() { "unknown".into() } else { name.into() };
        post(ledger, &name, &balance);
    }
    Ok(packets)
}
