//! Reading the configuration again while the agent runs.
//!
//! Enters: a request (SIGHUP). Leaves: other [`Rules`], when they have changed. It
//! holds that a file with an error changes nothing, and that what cannot be changed
//! without a restart is named.

use crate::config::{Config, Source};
use crate::filter::Rules;

/// The configuration that is in force and where it came from.
pub struct Reloader {
    source: Source,
    config: Config,
    store_port: Option<u16>,
}

impl Reloader {
    /// Of an agent that runs with `config`, read from `source`, and whose store
    /// listens at `store_port`.
    pub fn new(source: Source, config: Config, store_port: Option<u16>) -> Self {
        Self { source, config, store_port }
    }

    /// The rules of the configuration in force.
    pub fn rules(&self) -> Rules {
        let own_port = self.store_port.filter(|_| self.config.exclude_own_traffic);
        Rules { own_port, ..self.config.rules.clone() }
    }

    /// Reads the file again; the rules when they are others than before.
    pub fn reload(&mut self) -> Option<Rules> {
        let Some(path) = &self.source.file else {
            tracing::warn!("SIGHUP: there is nothing to read again: run was given no --config");
            return None;
        };
        let path = path.display();
        let new = match self.source.load() {
            Ok(new) => new,
            Err(error) => {
                tracing::error!("SIGHUP: {error}; everything stays as it was");
                return None;
            }
        };
        let restart = self.config.needs_restart(&new);
        if !restart.is_empty() {
            tracing::warn!(
                "SIGHUP: {path} has other values that need a restart: {}",
                restart.join(", ")
            );
        }
        let before = self.rules();
        self.config.rules = new.rules;
        self.config.exclude_own_traffic = new.exclude_own_traffic;
        let rules = self.rules();
        let changed = before != rules;
        let what = if changed { "are in force from the next drain" } else { "are as before" };
        tracing::info!("SIGHUP: {path} was read again; filters and sampling {what}");
        changed.then_some(rules)
    }
}
