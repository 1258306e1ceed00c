//! The command line of `flow-agent quarantine`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use flow_agent::sink::StoreTarget;
use uuid::Uuid;

use super::AccessArgs;

/// `flow-agent quarantine ...`.
#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// Show which batches are in it, and why
    List(QuarantineArgs),
    /// Print the flows of one, a JSON object a line
    Show {
        /// Where
        #[command(flatten)]
        folder: QuarantineArgs,
        /// Of the batch, as list shows it
        #[arg(value_name = "ID")]
        id: Uuid,
    },
    /// Send one again; it leaves the quarantine when the store has all of it
    Resend {
        /// Where
        #[command(flatten)]
        folder: QuarantineArgs,
        /// The store: embedded:DIR or http[s]://HOST[:PORT][/DATABASE], replicas with commas
        #[arg(long, value_name = "STORE", default_value = "http://127.0.0.1:8123")]
        store: StoreTarget,
        /// How the store is reached
        #[command(flatten)]
        access: AccessArgs,
        /// Of the batch, as list shows it; several with spaces
        #[arg(value_name = "ID", required = true)]
        ids: Vec<Uuid>,
    },
}

/// Which quarantine.
#[derive(Debug, Args)]
pub struct QuarantineArgs {
    /// The folder, as `quarantine_dir` of the section delivery says
    #[arg(long, value_name = "DIR", default_value = flow_agent::sink::quarantine::DEFAULT_DIR)]
    pub dir: PathBuf,
}
