//! `flow-agent reconcile`: the agent's ledger against counters that are not the agent's.
//!
//! Enters: two readings, an interval apart, of the running agent's ledger and of the drivers'
//! counters. Leaves: for each interface what the driver counted, what the hooks were given, and
//! an explanation of the difference, line by line. It holds that what moves on between two
//! readings is never taken for a difference: drivers are read before and after each reading of
//! the ledger, with a whole drain in between, so what the ledger has lies between the two.

mod gap;
mod reading;
mod sockets;
mod text;

use serde::Serialize;

pub use gap::{Explained, Gap};
pub use sockets::SocketDelta;

use crate::status::{Client, StatusError};
use reading::Reading;

/// What one interface's counters say.
#[derive(Clone, Debug, Serialize)]
pub struct Reconciled {
    /// Named as in the rows.
    pub interface: String,
    /// How what comes in is metered; none if it is not metered.
    pub ingress: Option<String>,
    /// Both sides and what explains the difference.
    #[serde(flatten)]
    pub gap: Gap,
    /// What became of the packets that the hooks were given, from the ledger, where not 0.
    pub ledger: Vec<(String, u64)>,
}

/// The whole answer.
#[derive(Clone, Debug, Serialize)]
pub struct Reconciliation {
    /// Between the two readings, in seconds.
    pub seconds: f64,
    /// By name.
    pub interfaces: Vec<Reconciled>,
    /// What sockets and the IP layer counted, by network namespace.
    pub sockets: Vec<SocketDelta>,
    /// Interfaces with packets that nothing explains.
    pub unexplained_interfaces: usize,
}

impl Reconciliation {
    /// For a person.
    pub fn text(&self) -> String {
        text::text(self)
    }
}

/// Compares over the time that `wait` takes; `only`: these interfaces, as in the rows, metered or not.
///
/// # Errors
/// The agent does not answer, or starts again meanwhile; a network namespace cannot be joined.
pub fn reconcile(
    client: &Client,
    only: &[String],
    wait: impl FnOnce(),
) -> Result<Reconciliation, StatusError> {
    let before = Reading::take(client, only)?;
    wait();
    let after = Reading::take(client, only)?;
    if before.agent != after.agent {
        let problem = "the agent was started again meanwhile: its ledger began anew; ask again";
        return Err(StatusError::Refused { problem: problem.into(), usage: false });
    }
    let interfaces: Vec<_> = after
        .names()
        .into_iter()
        .chain(before.names())
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .map(|name| gap::reconcile(&name, &before, &after))
        .collect();
    Ok(Reconciliation {
        seconds: (after.at - before.at).as_secs_f64(),
        unexplained_interfaces: interfaces.iter().filter(|it| it.gap.unexplained != 0).count(),
        interfaces,
        sockets: sockets::deltas(&before.sockets, &after.sockets),
    })
}
