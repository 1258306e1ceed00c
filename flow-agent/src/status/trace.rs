//! The way of a flow's packets, step by step, and one sentence on where it is, or why nowhere.
//!
//! Enters: what the levels have and what the rules say. Leaves: steps, outcome, conclusion.

use std::collections::BTreeSet;

use super::reasons::left_out;
use super::{FlowName, Level, Phase, Sources, Step};
use crate::filter::{LeftOut, Sampling};

/// Outcome and conclusion.
pub type Conclusion = (&'static str, String);

/// What became of the flow at each step, in the order in which packets pass them.
pub fn steps(sources: &Sources, name: &FlowName, levels: &[Level]) -> Vec<Step> {
    let rules = sources.rules.current();
    let said = left_out(sources, name);
    let step = |step: &str, result: String| Step { step: step.into(), result };
    let filters: Vec<_> = said
        .iter()
        .filter(|why| matches!(why, LeftOut::Protocol | LeftOut::Port | LeftOut::Prefix))
        .map(|why| format!("left out: {}", rules.rule(&name.flow_key(), *why)))
        .collect();
    let sampling = match rules.sampling {
        Sampling::All => "every packet is metered".to_owned(),
        Sampling::Packets(rate) => format!("1 in {rate} packets is metered"),
        Sampling::Flows(rate) if name.is_pair() => {
            format!("1 in {rate} flows is metered; say both ports to know whether this one is")
        }
        Sampling::Flows(rate) if said.contains(&LeftOut::NotSampled) => {
            format!("left out: 1 in {rate} flows is metered, and not this one")
        }
        Sampling::Flows(rate) => format!("1 in {rate} flows is metered, this one is in the sample"),
    };
    let own = if said.contains(&LeftOut::PerhapsOwn) {
        "it has the store's port: left out if it is the agent's own connection"
    } else {
        "not the agent's own"
    };
    let filter = if filters.is_empty() { "passes".into() } else { filters.join("; ") };
    let mut steps = vec![step("hook", hooks(sources, levels))];
    steps.push(step("own_traffic", own.into()));
    steps.push(step("filter", filter));
    steps.push(step("sampling", sampling));
    steps.extend(levels.iter().map(|level| step(&level.level, of_level(level))));
    steps
}

fn hooks(sources: &Sources, levels: &[Level]) -> String {
    let list = sources.metered.current();
    let seen: BTreeSet<_> = levels
        .iter()
        .flat_map(|level| &level.flows)
        .map(|flow| format!("{} {}", flow.interface, flow.direction))
        .collect();
    // What leaves by lo enters by it, and is metered there.
    let loopback = |name: &str| name.rsplit('/').next() == Some("lo");
    let metered: Vec<_> = list
        .metered
        .iter()
        .map(|it| {
            let egress = if loopback(&it.name) { "" } else { ", TC egress" };
            format!("{} ({}{egress})", it.name, it.ingress)
        })
        .collect();
    match (seen.is_empty(), metered.is_empty()) {
        (false, _) => format!("seen at {}", seen.into_iter().collect::<Vec<_>>().join(", ")),
        (true, true) => "no interface is metered".into(),
        (true, false) => format!("no trace of it; metered are {}", metered.join(", ")),
    }
}

fn of_level(level: &Level) -> String {
    if let Some(error) = &level.error {
        return format!("cannot be asked: {error}");
    }
    if !level.found {
        return "nothing".into();
    }
    let counts = format!("{} packets, {} octets", level.packets, level.bytes);
    match (level.rows, level.batches.first()) {
        (Some(rows), Some(batch)) => {
            format!("{rows} rows of {} batches (the newest {batch}), {counts}", level.batches.len())
        }
        _ => counts,
    }
}

/// Where it is, or why it is nowhere.
pub fn conclude(sources: &Sources, name: &FlowName, levels: &[Level]) -> Conclusion {
    let level = |wanted: &str| levels.iter().find(|level| level.level == wanted);
    let found = |wanted: &str| level(wanted).is_some_and(|level| level.found);
    let stored = if found("store") { "; earlier parts of it are stored" } else { "" };
    if found("kernel") || found("cache") {
        let text = "it is open: its packets are counted now, and a row follows when it ends, or at \
                    its active timeout";
        return ("open", format!("{text}{stored}"));
    }
    if found("spool") {
        let error = level("store").and_then(|store| store.error.clone());
        let why = match super::delivery::illness(sources).or(error) {
            None => "its batch is on its way to the store".to_owned(),
            Some(problem) => format!("its batch waits: {problem}"),
        };
        return ("waiting", format!("it has ended, and {why}{stored}"));
    }
    if let Some(store) = level("store").filter(|level| level.found) {
        let reasons: BTreeSet<_> =
            store.flows.iter().filter_map(|flow| flow.flow_end_reason.clone()).collect();
        let reasons = reasons.into_iter().collect::<Vec<_>>().join(", ");
        let last = store.last.as_deref().unwrap_or("unknown");
        let text = format!("it has ended ({reasons}) and is stored; its last packet came {last}");
        return ("stored", text);
    }
    nowhere(sources, name, levels)
}

fn nowhere(sources: &Sources, name: &FlowName, levels: &[Level]) -> Conclusion {
    let rules = sources.rules.current();
    let said = left_out(sources, name);
    let filter =
        said.iter().find(|why| matches!(why, LeftOut::Protocol | LeftOut::Port | LeftOut::Prefix));
    if let Some(why) = filter {
        let rule = rules.rule(&name.flow_key(), *why);
        return ("filtered", format!("the configuration leaves it out: {rule} in [filter]"));
    }
    if said.contains(&LeftOut::NotSampled) {
        let rate = rules.sampling.weight();
        return ("not_sampled", format!("it is not in the sample: 1 in {rate} flows is metered"));
    }
    if sources.metered.current().metered.is_empty() {
        let phase = match sources.vitals.phase() {
            Phase::Metering => "see `flow-agent check`",
            _ => "the agent is not ready",
        };
        return ("not_metered", format!("no interface is metered: {phase}"));
    }
    if let Some(failed) = levels.iter().find(|level| level.error.is_some()) {
        return (
            "unknown",
            format!("the {} cannot be asked, and nobody else has it", failed.level),
        );
    }
    if said.contains(&LeftOut::PerhapsOwn) {
        let text = "it may be the agent's own connection to its store (exclude_own_traffic)";
        return ("own_traffic", text.into());
    }
    let started = super::level::time(sources.vitals.started_ns()).unwrap_or_default();
    let text = format!(
        "no packet of it passed a metered interface since the agent started ({started}), or it was \
         lost with one of the reasons below; rows before the last 24 hours are not looked at, and \
         those beyond the retention are gone"
    );
    ("unseen", text)
}
