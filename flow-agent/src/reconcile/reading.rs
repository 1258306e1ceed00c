//! One reading: drivers, a whole drain, the ledger, drivers again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crossbeam::channel::never;
use serde_json::Value;

use super::sockets::{self, SocketCounters};
use crate::attach::{
    AttachError, Attached, Counters, InterfaceSpec, NamespaceSpec, NetworkNamespace, Scan, Scanner,
    Selection, Survey, link_counters,
};
use crate::status::{Client, StatusError};

/// Between two questions for how far the drain is.
const TICK: Duration = Duration::from_millis(100);
/// Beside what two drains take.
const PATIENCE: Duration = Duration::from_secs(20);

/// An interface that is metered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metered {
    /// The agent's number for it: another one after each attaching.
    pub number: u64,
    /// The hook of what comes in.
    pub ingress: String,
}

/// What was read.
pub struct Reading {
    /// When the ledger was read.
    pub at: Instant,
    /// Which run of the agent.
    pub agent: (u64, String),
    /// By name.
    pub metered: BTreeMap<String, Metered>,
    /// Name and reason.
    pub refused: BTreeMap<String, String>,
    /// `interfaces` of the ledger.
    pub ledger: Value,
    /// Before and after the ledger was read.
    pub drivers: [BTreeMap<String, Counters>; 2],
    /// Programs at the hooks.
    pub attached: BTreeMap<String, Vec<Attached>>,
    /// By namespace.
    pub sockets: BTreeMap<String, SocketCounters>,
    asked: BTreeSet<String>,
}

impl Reading {
    /// Reads everything; takes two drains.
    pub fn take(client: &Client, only: &[String]) -> Result<Self, StatusError> {
        let asked: BTreeSet<String> = only.iter().cloned().collect();
        let (metered, refused) = wanted(client, &asked)?;
        let names: BTreeSet<_> =
            metered.into_keys().chain(refused.into_keys()).chain(asked.clone()).collect();
        let first = drivers(&names)?;
        let agent = wait_for_drain(client)?;
        let at = Instant::now();
        let ledger = client.page("/api/v1/ledger")?["interfaces"].take();
        let second = drivers(&names)?;
        // Again: what was detached meanwhile is not metered.
        let (metered, refused) = wanted(client, &asked)?;
        let attached = names.iter().map(|name| (name.clone(), attached(name))).collect();
        let sockets = sockets::read(&namespaces(&names))?;
        let drivers = [first, second];
        Ok(Self { at, agent, metered, refused, ledger, drivers, attached, sockets, asked })
    }

    /// Every interface that is compared.
    pub fn names(&self) -> BTreeSet<String> {
        self.metered.keys().chain(&self.asked).chain(self.refused.keys()).cloned().collect()
    }

    /// A sum of the ledger: packets and octets.
    pub fn booked(&self, interface: &str, stage: &str, reason: Option<&str>) -> (u64, u64) {
        let mut place = &self.ledger[interface][stage];
        if let Some(reason) = reason {
            place = &place[reason];
        }
        let number = |key| place[key].as_u64().unwrap_or_default();
        (number("packets"), number("octets"))
    }
}

type Interfaces = (BTreeMap<String, Metered>, BTreeMap<String, String>);

/// What is metered and what refuses: all, or of what is asked for.
fn wanted(client: &Client, asked: &BTreeSet<String>) -> Result<Interfaces, StatusError> {
    let page = client.page("/api/v1/interfaces")?;
    let list = |key: &str| page[key].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metered = list("metered").into_iter().map(|it| {
        let number = it["number"].as_u64().unwrap_or_default();
        (text(&it["name"]), Metered { number, ingress: text(&it["ingress"]) })
    });
    let refused = list("refused").iter().map(|it| (text(&it["name"]), text(&it["why"]))).collect();
    let (mut metered, mut refused): Interfaces = (metered.collect(), refused);
    if !asked.is_empty() {
        metered.retain(|name, _| asked.contains(name));
        refused.retain(|name, _| asked.contains(name));
    }
    Ok((metered, refused))
}

/// Waits until a drain has begun and ended; leaves the process and start of the agent.
fn wait_for_drain(client: &Client) -> Result<(u64, String), StatusError> {
    let started = Instant::now();
    let mut first = None;
    loop {
        let page = client.page("/api/v1/status")?;
        let count = page["drains"]["count"].as_u64().unwrap_or_default();
        let first = *first.get_or_insert(count);
        if count >= first + 2 {
            let began = page["started"].as_str().unwrap_or_default().to_owned();
            return Ok((page["process"].as_u64().unwrap_or_default(), began));
        }
        let interval = page["drains"]["interval_ms"].as_u64().unwrap_or_default();
        if started.elapsed() > PATIENCE + 3 * Duration::from_millis(interval) {
            let problem = "the agent does not drain its tables: see /healthz and its log".into();
            return Err(StatusError::Refused { problem, usage: false });
        }
        let _ = never::<()>().recv_timeout(TICK);
    }
}

/// A name as in the rows, as namespace and interface.
fn place(name: &str) -> Option<(NetworkNamespace, String)> {
    let spec: InterfaceSpec = name.parse().ok()?;
    match spec.namespace {
        NamespaceSpec::One(namespace) => Some((namespace, spec.name)),
        NamespaceSpec::Glob(_) => None,
    }
}

fn namespaces(names: &BTreeSet<String>) -> BTreeSet<NetworkNamespace> {
    names.iter().filter_map(|name| Some(place(name)?.0)).collect()
}

fn drivers(names: &BTreeSet<String>) -> Result<BTreeMap<String, Counters>, StatusError> {
    let mut all = BTreeMap::new();
    for namespace in namespaces(names) {
        let counters = namespace.run(|| {
            link_counters().map_err(|source| AttachError::Io {
                what: "the drivers' counters cannot be read".into(),
                source,
            })
        });
        match counters {
            Ok(counters) => all
                .extend(counters.into_iter().map(|(name, it)| (format!("{namespace}{name}"), it))),
            // It has gone, and its interfaces with it.
            Err(AttachError::Namespace { .. } | AttachError::ProcessGone { .. }) => {}
            Err(error) => {
                return Err(StatusError::Refused { problem: error.to_string(), usage: false });
            }
        }
    }
    all.retain(|name, _| names.contains(name));
    Ok(all)
}

/// Programs at its hooks; none if it cannot be looked at.
fn attached(name: &str) -> Vec<Attached> {
    let Ok(spec) = name.parse() else { return Vec::new() };
    let selection = Selection { include: vec![spec], ..Selection::default() };
    let Ok(Scan { found, .. }) = Scanner::once(selection).scan() else { return Vec::new() };
    let surveys = found.iter().filter_map(|interface| Survey::of(interface).ok());
    surveys.flat_map(|survey| survey.attached).collect()
}
