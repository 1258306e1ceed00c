//! `flow-agent top`: looks at a running agent enter, a screen that is drawn anew leaves.
//!
//! A thread asks the agent; the screen never waits for it. What must hold: the terminal is as
//! it was when this ends, however it ends, and memory is bounded by the flows
//! of the last few looks, of which the agent tells at most 200 each.

mod app;
mod column;
mod draw;
mod export;
mod filter;
mod flow;
mod history;
mod once;
mod screen;
mod units;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

pub use column::Column;
pub use once::{once, once_json};
pub use screen::run;

use crate::status::Client;

/// What was asked for.
#[derive(Clone, Debug)]
pub struct TopOptions {
    /// The agent.
    pub client: Client,
    /// Time between two looks.
    pub interval: Duration,
    /// Flows of a look.
    pub limit: usize,
    /// What the table is sorted by at first.
    pub sort: Column,
    /// What flows must have at first.
    pub filter: String,
    /// Where exports go.
    pub export_dir: PathBuf,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// The output is a pipe or a file.
    #[error(
        "top needs a terminal, and this is none; for scripts and pipes there is \
         `flow-agent top --once`, with --json for programs"
    )]
    NoTerminal,
    /// The terminal fails.
    #[error("the terminal cannot be used: {source}; try `flow-agent top --once`")]
    Terminal {
        /// Why.
        #[from]
        source: std::io::Error,
    },
}
