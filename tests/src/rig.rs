//! A lab with a store, metered at both ends and compared flow by flow with an
//! independent count.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::bin_path::flow_agent;
use crate::lab::Lab;
use crate::ledger::Ledger;
use crate::process::Agent;
use crate::rows;
use crate::status::{ANY_PORT, Status};
use crate::store::Store;
use crate::tally::{Counts, Tally};
use crate::traffic::Sent;

/// A lab with its store; both are gone when it is dropped.
pub struct Rig {
    /// The wire.
    pub lab: Lab,
    /// Where the agent's rows go.
    pub store: Store,
}

impl Rig {
    /// A new one; nothing is metered yet.
    pub fn new() -> Result<Self> {
        Ok(Self { lab: Lab::new()?, store: Store::start() })
    }

    /// Meters both ends, attached as told.
    pub fn agent(&self, attach: (&str, &str)) -> Result<Agent> {
        self.agent_with(attach, &[])
    }

    /// The same, with more arguments.
    pub fn agent_with(&self, attach: (&str, &str), more: &[&str]) -> Result<Agent> {
        agent(&self.lab, attach, self.store.url(), more)
    }

    /// Meters both ends by TC with this configuration, written to `folder`, and more arguments;
    /// leaves where its status is, too.
    pub fn agent_configured(
        &self,
        folder: &Path,
        config: &str,
        more: &[&str],
    ) -> Result<(Agent, Status)> {
        let file = folder.join("agent.toml");
        std::fs::write(&file, config)?;
        let file = file.to_str().context("a path in UTF-8")?;
        let arguments = [&ANY_PORT[..], &["--config", file], more].concat();
        let agent = self.agent_with(("tc", "tc"), &arguments)?;
        let status = Status::of(&agent)?;
        Ok((agent, status))
    }

    /// Meters the traffic, stops the agent and compares; returns what the tallies saw.
    pub fn meter(
        &self,
        attach: (&str, &str),
        traffic: impl FnOnce(&Lab) -> Result<Sent>,
    ) -> Result<(Counts, Counts)> {
        let agent = self.agent(attach)?;
        let counts = tally(&self.lab, traffic)?;
        let log = agent.stop()?;
        exact(&self.lab, self.store.url(), &counts)
            .inspect_err(|_| println!("the agent said:\n{log}"))?;
        Ok(counts)
    }
}

/// Meters both ends of a lab into any store, named as the agent names it.
pub fn agent(lab: &Lab, attach: (&str, &str), store: &str, more: &[&str]) -> Result<Agent> {
    agent_of(&flow_agent(), lab, attach, store, more)
}

/// The same with a binary of the caller's choice.
pub fn agent_of(
    binary: &Path,
    lab: &Lab,
    attach: (&str, &str),
    store: &str,
    more: &[&str],
) -> Result<Agent> {
    let (left, right) = (lab.left.spec(attach.0), lab.right.spec(attach.1));
    let arguments = ["--interface", &left, "--interface", &right, "--store", store];
    Agent::start(binary, &[&arguments, more].concat())
}

/// Counts traffic at both ends.
pub fn tally(lab: &Lab, traffic: impl FnOnce(&Lab) -> Result<Sent>) -> Result<(Counts, Counts)> {
    let tallies = (Tally::start(&lab.left)?, Tally::start(&lab.right)?);
    let sent = traffic(lab)?;
    let counts = (tallies.0.stop()?, tallies.1.stop()?);
    println!(
        "{} conversations, {} octets of payload, {} packets at the left end",
        sent.conversations,
        sent.forward + sent.backward,
        counts.0.total.packets
    );
    Ok(counts)
}

/// An error unless the store has exactly these counts, of both ends, and the ledger says so.
pub fn exact(lab: &Lab, store: &str, counts: &(Counts, Counts)) -> Result<()> {
    exact_at(store, lab.left.interface, &counts.0)?;
    exact_at(store, lab.right.interface, &counts.1)
}

/// The same for one interface.
pub fn exact_at(store: &str, interface: &str, counts: &Counts) -> Result<()> {
    let stored = rows::flows(store, interface)?;
    let different = rows::differences(&counts.by_key(), &stored);
    ensure!(different.is_empty(), "{interface}, flows that differ:\n{}", different.join("\n"));
    let ledger = Ledger::read(store, interface)?;
    ensure!(ledger.unaccounted() == (0, 0), "{interface}: not all is explained: {ledger:?}");
    ensure!(ledger.lost.packets == 0, "{interface}: packets were lost: {ledger:?}");
    let wire = counts.total;
    ensure!(ledger.metered == wire, "{interface}: {ledger:?}, wire {wire:?}");
    ensure!(ledger.not_metered.packets == counts.other, "{interface}: {ledger:?}");
    ensure!(ledger.drained == ledger.metered, "{interface}: metered but not drained: {ledger:?}");
    ensure!(ledger.acknowledged == ledger.drained, "{interface}: not all is stored: {ledger:?}");
    Ok(())
}
