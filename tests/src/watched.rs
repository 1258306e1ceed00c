//! An agent that watches for interfaces, and what is stored of each.

use std::time::Duration;

use anyhow::Result;

use crate::bin_path::flow_agent;
use crate::hooks::attached_on;
use crate::lab::{Lab, Namespace};
use crate::ledger::Ledger;
use crate::process::Agent;
use crate::rig::Rig;
use crate::sql;
use crate::tally::Count;

/// Until the agent has seen what has changed, on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// An agent that meters these.
pub fn agent(rig: &Rig, include: &[&str], more: &[&str]) -> Result<Agent> {
    let mut arguments = vec!["--store", rig.store.url()];
    arguments.extend(include.iter().flat_map(|spec| ["--interface", spec]));
    Agent::start(&flow_agent(), &[&arguments, more].concat())
}

/// What is stored for interfaces of exactly this name, in rows and in the ledger.
pub fn stored(rig: &Rig, interface: &str) -> Result<Count> {
    let rows = sql::rows(
        rig.store.url(),
        &format!(
            "SELECT sum(packets + reverse_packets), sum(bytes + reverse_bytes) \
             FROM flow.flows WHERE interface = '{interface}'"
        ),
    )?;
    let number = |position: usize| rows[0][position].parse::<u64>();
    let count = Count { packets: number(0)?, octets: number(1)? };
    let ledger = Ledger::read(rig.store.url(), interface)?;
    assert_eq!(ledger.unaccounted(), (0, 0), "{interface}: {ledger:?}");
    assert_eq!(ledger.in_flight(), (0, 0), "{interface}: {ledger:?}");
    assert_eq!((ledger.lost.packets, ledger.metered), (0, count), "{interface}: {ledger:?}");
    Ok(count)
}

/// Nothing was counted for an interface that the agent had not configured.
pub fn none_unknown(rig: &Rig) -> Result<()> {
    assert_eq!(Ledger::read(rig.store.url(), "unknown")?, Ledger::default());
    Ok(())
}

/// No program is attached there.
pub fn nothing_left(ends: &[(&Namespace, &str)]) -> Result<()> {
    for (namespace, interface) in ends {
        assert_eq!(attached_on(namespace, interface)?, Vec::<String>::new(), "{interface}");
    }
    Ok(())
}

/// The namespaces of both ends.
pub fn spaces(lab: &Lab) -> (&Namespace, &Namespace) {
    (&lab.left.namespace, &lab.right.namespace)
}
