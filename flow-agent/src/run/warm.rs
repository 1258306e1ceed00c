//! The warm start: what a restart would forget.
//!
//! Enters: the state that the agent before this one saved. Leaves: a cache and analytics that know
//! it, and a [`Keeper`] that saves it again. A disk that is slow or fails holds nothing up.

use std::time::{Duration, Instant};

use super::pipeline::Pipeline;
use crate::Error;
use crate::analytics::Learned;
use crate::cache::Memory;
use crate::clock::wall_clock;
use crate::config::Config;
use crate::enrich::Enrichment;
use crate::state::{Initiators, Keeper, ListeningPorts, Part};

/// How long a start waits for a file of a few megabytes on a busy disk; later it comes too late
/// for a killed agent's flows.
const LOAD_PATIENCE: Duration = Duration::from_secs(1);

/// How long a stopping agent waits for the disk of its state file.
const SAVE_PATIENCE: Duration = Duration::from_secs(5);

/// Gives the cache what is known from before, and keeps it for the next agent.
pub fn warm_start(
    config: &Config,
    pipeline: &Pipeline,
    enrichment: &Enrichment,
) -> Result<Option<Keeper>, Error> {
    let control = pipeline.cache.control();
    let memory = Memory::new(enrichment.known_ports.clone());
    if let Err(error) = control.remember(&memory, LOAD_PATIENCE) {
        tracing::debug!("{error}");
    }
    let Some(state) = &config.state else { return Ok(None) };
    let mut parts: Vec<Box<dyn Part>> =
        vec![Box::new(Initiators::new(control, memory, Instant::now()))];
    if let Some(ttl) = config.enrich.as_ref().and_then(|enrich| enrich.listeners_ttl) {
        parts.push(Box::new(ListeningPorts { listeners: enrichment.listeners.clone(), ttl }));
    }
    if let Some(analytics) = pipeline.analytics() {
        parts.push(Box::new(Learned::new(analytics.control())));
    }
    let keeper = Keeper::start(state.clone(), parts, wall_clock).map_err(Error::thread)?;
    keeper.wait_loaded(LOAD_PATIENCE);
    Ok(Some(keeper))
}

/// Saves what is known, while the agent stops.
pub fn save(keeper: &Keeper) {
    keeper.save(SAVE_PATIENCE);
}

/// Saves what the analytics have learned up to their end.
pub fn save_last(keeper: Option<Keeper>) {
    if let Some(keeper) = keeper {
        keeper.stop(SAVE_PATIENCE);
    }
}
