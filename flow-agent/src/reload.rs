//! Reading the configuration again while the agent runs.
//!
//! Enters: what a thread has read, at SIGHUP or because the file has changed. Leaves:
//! [`Changes`]. It holds that a file with an error changes nothing, and that what cannot be
//! changed without a restart is named, in the log and in the status.

mod watch;

use std::io;
use std::sync::Arc;

use crossbeam::channel::{Receiver, bounded};

use crate::attach::Selection;
use crate::config::{Config, ConfigBook, Effective, Loaded, Source};
use crate::filter::Rules;
use crate::logging;
pub use watch::Watch;
use watch::{Cause, News, Reader};

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
    config: Config,
    /// What people are shown.
    effective: Effective,
    /// As it was read last, whether it is in force or not.
    read: Effective,
    book: ConfigBook,
    file: String,
    store_port: Option<u16>,
    news: Receiver<News>,
    /// The reading thread ends with it.
    _alive: Arc<()>,
}

impl Reloader {
    /// Of an agent that runs with what was `loaded` from `source`, which `watch` has looked at
    /// before, and whose store listens at `store_port`. It is read again at `hangups`.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(
        source: Source,
        watch: Watch,
        loaded: &Loaded,
        store_port: Option<u16>,
        hangups: Receiver<()>,
    ) -> io::Result<Self> {
        let file = source.file.as_ref().map(|path| path.display().to_string());
        let (sender, news) = bounded(1);
        let on_change = loaded.config.reload_on_change;
        let reader = Reader { source, watch, on_change, hangups, news: sender };
        Ok(Self {
            config: loaded.config.clone(),
            effective: loaded.effective.clone(),
            read: loaded.effective.clone(),
            book: ConfigBook::new(file.clone(), loaded.effective.clone()),
            file: file.unwrap_or_default(),
            store_port,
            news,
            _alive: reader.start()?,
        })
    }

    /// The rules of the configuration in force.
    pub fn rules(&self) -> Rules {
        let own_port = self.store_port.filter(|_| self.config.exclude_own_traffic);
        Rules { own_port, ..self.config.rules.clone() }
    }

    /// What the status shows.
    pub fn book(&self) -> ConfigBook {
        self.book.clone()
    }

    /// What has changed, if the configuration was read again. Never waits.
    pub fn changes(&mut self) -> Option<Changes> {
        let News { cause, loaded } = self.news.try_recv().ok()?;
        let Some(loaded) = loaded else {
            tracing::warn!("SIGHUP: there is nothing to read again: run was given no --config");
            return Some(Changes::default());
        };
        let why = cause.label();
        Some(match loaded {
            Ok(loaded) if cause == Cause::Changed && loaded.effective == self.read => {
                tracing::debug!("{why}: {} says what it said", self.file);
                Changes::default()
            }
            Ok(loaded) => self.follow(why, *loaded),
            Err(error) => {
                for problem in error.each() {
                    tracing::error!("{why}: {problem}; everything stays as it was");
                }
                self.book.refuse(error.each().iter().map(ToString::to_string).collect());
                Changes::default()
            }
        })
    }

    fn follow(&mut self, why: &str, Loaded { config: new, effective, .. }: Loaded) -> Changes {
        let file = &self.file;
        self.read = effective;
        self.effective = self.effective.followed_by(&self.read);
        let restart = &self.effective.needs_restart;
        if !restart.is_empty() {
            let keys = restart.join(", ");
            tracing::warn!("{why}: {file} has other values that need a restart: {keys}");
        }
        self.book.set(self.effective.clone());
        for warning in &new.warnings {
            tracing::warn!("{why}: {warning}");
        }
        if self.config.log != new.log {
            match logging::apply(&new.log) {
                Ok(()) => self.config.log = new.log,
                Err(error) => tracing::warn!("{why}: logs stay as they were: {error}"),
            }
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
            "{why}: {file} was read again; filters and sampling are {}, interfaces are {}",
            is(changes.rules.is_some()),
            is(changes.selection.is_some())
        );
        changes
    }
}
