//! A lab whose left end is metered into a store behind a faulty proxy.
//!
//! Enters: traffic between real sockets, faults. Leaves: rows, compared flow by flow with an
//! independent count of the wire ([`crate::tally`]), and the ledger.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::bin_path::flow_agent;
use crate::faults::{self, Outcome};
use crate::lab::Lab;
use crate::process::Agent;
use crate::proxy::Proxy;
use crate::status::{ANY_PORT, Status};
use crate::store::Store;
use crate::tally::{Count, Counts, Tally};
use crate::traffic::{self, Ends};
use crate::{rig, rows, stored};

/// Deadline for what must happen at all; a fault's own duration comes on top.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The same for all that was frozen before agents were killed.
const LONG_PATIENCE: Duration = Duration::from_secs(100);

/// Flows leave the cache quickly.
const HASTY: &str = "drain_interval_ms = 50\nidle_timeout_s = 1\nactive_timeout_s = 1\n";

/// Batches of at most so many rows, frozen soon.
pub fn batches(rows: usize) -> String {
    format!("batch.max_rows = {rows}\nbatch.age_ms = 50\n")
}

/// The wire, the proxy, and the store behind it.
pub struct Faulty {
    /// The wire.
    pub lab: Lab,
    /// What the agent believes to be its store.
    pub proxy: Proxy,
    /// The store itself.
    pub store: Store,
    /// Of the agents' spools and configuration.
    pub folder: TempDir,
    /// All that has passed the wire's left end while it was metered.
    wire: Counts,
    /// Packets that had passed when the last agent was started.
    before: Cell<u64>,
}

impl Faulty {
    /// A new one, without an agent.
    pub fn new() -> Result<Self> {
        Self::before(Store::start())
    }

    /// The same, before a store of the caller's.
    pub fn before(store: Store) -> Result<Self> {
        let proxy = Proxy::start(store.url())?;
        let folder = TempDir::with_prefix("flow-faulty-")?;
        Ok(Self {
            lab: Lab::new()?,
            proxy,
            store,
            folder,
            wire: Counts::default(),
            before: Cell::new(0),
        })
    }

    /// Kills the store outright and starts it again.
    #[must_use]
    pub fn crash_store(self) -> Self {
        Self { store: self.store.crash(), ..self }
    }

    /// The same, with something done while it is dead.
    pub fn crash_store_and(self, between: impl FnOnce() -> Result<()>) -> Result<Self> {
        let killed = self.store.kill();
        between()?;
        Ok(Self { store: killed.start(), ..self })
    }

    /// Starts an agent at the left end, with more lines of configuration (`section.key = value`).
    pub fn agent(&self, config: &str) -> Result<Agent> {
        self.agent_after(&[], config, &[])
    }

    /// The same with words before the binary ([`Agent::start_after`]) and more arguments.
    pub fn agent_after(&self, words: &[&str], config: &str, more: &[&str]) -> Result<Agent> {
        let path = self.folder.path().join("config.toml");
        let (spool, quarantine) = (self.folder.path().join("spool"), self.quarantine());
        let folders = format!("delivery.quarantine_dir = '{}'\n", quarantine.display());
        std::fs::write(&path, [HASTY, &folders, config].concat())?;
        let path = path.to_str().context("a path in UTF-8")?;
        let (left, store) = (self.lab.left.spec("tc"), self.proxy.url());
        self.before.set(self.wire.total.packets);
        let spool = spool.to_str().context("a path in UTF-8")?;
        let arguments = ["--interface", &left, "--store", &store, "--config", path];
        let usual = ["--spool-dir", spool];
        let spool = if more.contains(&"--spool-dir") { &[][..] } else { &usual[..] };
        let arguments = [&arguments[..], spool, &ANY_PORT, more].concat();
        Agent::start_after(words, &flow_agent(), &arguments)
    }

    /// Where rows are put that the store refuses.
    pub fn quarantine(&self) -> PathBuf {
        self.folder.path().join("quarantine")
    }

    /// So many UDP conversations of `packets` each way, from ports of their own: a row each, if
    /// nothing takes longer than the timeouts.
    pub fn talk(&mut self, flows: u64, packets: u64) -> Result<()> {
        self.count(|lab| {
            let ends = Ends::v4((&lab.left, 0), (&lab.right, 0), 53);
            traffic::ask_together(ends, flows, packets, 40, 200).map(drop)
        })
    }

    /// Traffic of any kind.
    pub fn count(&mut self, traffic: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
        let tally = Tally::start(&self.lab.left)?;
        traffic(&self.lab)?;
        let counts = tally.stop()?;
        for (key, count) in counts.flows {
            self.wire.flows.entry(key).or_default().add(count);
        }
        self.wire.total.add(counts.total);
        self.wire.other += counts.other;
        Ok(())
    }

    /// Records that a fault happened ([`faults`]): what is stored is compared with the wire.
    pub fn happened(&self, name: &str, proof: &str) -> Result<Outcome> {
        let outcome = Outcome::compare(self.store.url(), self.wire.total.packets)?;
        faults::record(name, proof, outcome.clone())?;
        Ok(outcome)
    }

    /// The same for faults of the proxy, which counts them.
    pub fn fired(&self, name: &str) -> Result<()> {
        let fired = self.proxy.fired();
        ensure!(fired.total() > 0, "{name}: the proxy did nothing");
        let all = fired.all().into_iter().map(|(fault, times)| format!("{times} x {fault}"));
        self.happened(name, &format!("proxy: {}", all.collect::<Vec<_>>().join(", "))).map(drop)
    }

    /// Packets and octets that have passed while they were counted.
    pub fn passed(&self) -> Count {
        self.wire.total
    }

    /// Waits until the agent's ledger says that all that has passed is in the store.
    pub fn wait_acknowledged(&self, agent: &Agent, limit: Duration) -> Result<()> {
        let status = Status::of(agent)?;
        let packets = self.wire.total.packets;
        let all = |ledger: &Value| ledger["acknowledged"]["packets"] == packets;
        agent.wait_until("all packets are acknowledged", limit, || {
            Ok(all(&status.json("/api/v1/ledger")?["total"]))
        })
    }

    /// Waits until all that has passed since the agent was started is in frozen batches, of at
    /// least so many rows, while the store takes none.
    pub fn wait_frozen(&self, agent: &Agent, rows: u64) -> Result<()> {
        let status = Status::of(agent)?;
        let packets = self.wire.total.packets - self.before.get();
        let frozen = agent.wait_until("all packets are frozen", PATIENCE, || {
            let drained = status.json("/api/v1/ledger")?["total"]["drained"]["packets"].clone();
            let now = status.json("/api/v1/status")?;
            let open = [&now["cache"]["flows"], &now["waiting"]["open_records"]];
            let spooled = now["spool"]["rows"].as_u64().context("the spool has rows")?;
            Ok(drained == packets && open.iter().all(|open| **open == 0) && spooled >= rows)
        });
        frozen.inspect_err(|_| println!("the agent said:\n{}", agent.log()))
    }

    /// Waits until the table has so many packets; it is asked, whatever the agent believes.
    pub fn wait_stored(&self, agent: &Agent, packets: u64) -> Result<()> {
        let is_stored = || {
            let [forward, _, backward, _] = stored::sums(self.store.url(), "flows")?;
            Ok(forward + backward >= packets)
        };
        let waited = agent.wait_until("all packets are stored", LONG_PATIENCE, is_stored);
        waited.inspect_err(|_| drop(self.exact().inspect_err(|error| println!("{error}"))))
    }

    /// Waits until so many rows are in the quarantine, and no more.
    pub fn wait_quarantined(&self, agent: &Agent, rows: u64) -> Result<()> {
        agent.wait_until("all refused rows are in the quarantine", PATIENCE, || {
            let there = quarantined(&self.quarantine())?;
            ensure!(there <= rows, "{there} rows are in the quarantine, {rows} were refused");
            Ok(there == rows)
        })
    }

    /// Leaves everything in the spool of an agent that is killed: so many rows, and those of
    /// agents before it.
    pub fn leave_spool(&mut self, flows: u64, rows: u64, config: &str) -> Result<()> {
        let agent = self.agent(config)?;
        self.proxy.refuse()?;
        self.talk(flows, 1)?;
        self.wait_frozen(&agent, rows)?;
        agent.kill()?;
        self.proxy.accept()
    }

    /// The folder of the agents' spools.
    pub fn spool(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    /// Waits until nothing waits for the store, stops the agent, and leaves what it said; packets
    /// may be lost.
    pub fn end(agent: Agent) -> Result<String> {
        let status = Status::of(&agent)?;
        agent.wait_until("nothing waits for the store", LONG_PATIENCE, || {
            let now = status.json("/api/v1/status")?;
            let waiting = [&now["cache"]["flows"], &now["waiting"]["open_records"]];
            let rows = &now["spool"]["rows"];
            Ok(waiting.iter().all(|records| **records == 0) && *rows == 0)
        })?;
        agent.signal(Signal::TERM)?;
        Ok(agent.ended(PATIENCE)?.1)
    }

    /// Waits until a fault has happened so many times.
    pub fn wait_fired(&self, agent: &Agent, name: &str, times: u64) -> Result<()> {
        let fired = self.proxy.fired();
        let what = format!("{times} times {name}");
        agent.wait_until(&what, PATIENCE, || Ok(fired.of(name) >= times))
    }

    /// Waits until all is acknowledged, checks the running agent's books, stops it (it must say
    /// that nothing is missing), and compares what is stored with the wire. Leaves the agent's log.
    pub fn settle(&self, agent: Agent) -> Result<String> {
        self.wait_acknowledged(&agent, PATIENCE)?;
        let ledger = Status::of(&agent)?.json("/api/v1/ledger")?;
        let total = &ledger["total"];
        for difference in ["unaccounted", "in_flight"] {
            ensure!(total[difference]["packets"] == 0, "{difference}: {total}");
            ensure!(total[difference]["octets"] == 0, "{difference}: {total}");
        }
        let log = agent.stop()?;
        self.exact().inspect_err(|_| println!("the agent said:\n{log}"))?;
        rig::exact_at(self.store.url(), self.lab.left.interface, &self.wire)?;
        Ok(log)
    }

    /// The same after agents were killed, whose books are gone: what is stored is asked.
    pub fn settle_again(&self, agent: Agent) -> Result<String> {
        self.wait_stored(&agent, self.wire.total.packets)?;
        let log = agent.stop()?;
        self.exact().inspect_err(|_| println!("the agent said:\n{log}"))?;
        Ok(log)
    }

    /// An error unless the store has exactly what has passed the wire, each row once, and each
    /// rollup the same.
    pub fn exact(&self) -> Result<()> {
        let url = self.store.url();
        let stored = rows::flows(url, self.lab.left.interface)?;
        let different = rows::differences(&self.wire.by_key(), &stored);
        ensure!(different.is_empty(), "flows that differ:\n{}", different.join("\n"));
        let [packets, octets, reverse_packets, reverse_octets] = stored::agreed(url)?;
        let stored = Count { packets: packets + reverse_packets, octets: octets + reverse_octets };
        ensure!(stored == self.wire.total, "stored {stored:?}, wire {:?}", self.wire.total);
        println!(
            "{} rows, {} packets stored once, in {:?} rollups too; faults {:?}",
            stored::rows(url)?,
            stored.packets,
            stored::rollups(url)?,
            self.proxy.fired().all()
        );
        Ok(())
    }
}

/// The rows in a quarantine: each file begins with a line of JSON that says how many it has.
fn quarantined(folder: &Path) -> Result<u64> {
    let mut rows = 0;
    let Ok(files) = std::fs::read_dir(folder) else { return Ok(rows) };
    for file in files {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "batch") {
            let file = std::fs::read(&path)?;
            let card = file.split(|octet| *octet == b'\n').next().context("a line")?;
            let card: Value = serde_json::from_slice(card)?;
            rows += card["rows"].as_u64().context("a batch has rows")?;
        }
    }
    Ok(rows)
}
