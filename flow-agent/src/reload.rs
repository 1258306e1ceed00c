//! Reading the configuration again while the agent runs.
//!
//! Enters: a request (SIGHUP). Leaves: [`Changes`]. It holds that a file with an error
//! changes nothing, and that what cannot be changed without a restart is named.

use crate::attach::Selection;
use crate::config::{Config, Source};
use crate::filter::Rules;

/// What is other than before.
#[derive(Debug, Default)]
pub struct Changes {
    /// What is metered of the packets.
    pub rules: Option<Rules>,
    /// Which interfaces are metered.
    pub selection: Option<Selection>,
}

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

    /// Reads the file again.
    pub fn reload(&mut self) -> Changes {
        let Some(path) = &self.source.file else {
            tracing::warn!("SIGHUP: there is nothing to read again: run was given no --config");
            return Changes::default();
        };
        let path = path.display();
        let new = match self.source.load() {
            Ok(new) => new,
            Err(error) => {
                tracing::error!("SIGHUP: {error}; everything stays as it was");
                return Changes::default();
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
        let selection = (self.config.selection != new.selection).then_some(new.selection);
        if let Some(selection) = &selection {
            self.config.selection = selection.clone();
        }
        let changes = Changes { rules: (before != rules).then_some(rules), selection };
        let is = |other: bool| if other { "others" } else { "as before" };
        tracing::info!(
            "SIGHUP: {path} was read again; filters and sampling are {}, interfaces are {}",
            is(changes.rules.is_some()),
            is(changes.selection.is_some())
        );
        changes
    }
}
