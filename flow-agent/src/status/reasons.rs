//! Why a flow may be missing, or not be whole: sentences for people.

use flow_common::NotMetered;

use super::{FlowName, Level, Phase, Sources};
use crate::attach::{MeteredList, link_counters};
use crate::filter::{LeftOut, Sampling};
use crate::ledger::Entry;

/// Everything that may be why.
pub fn reasons(sources: &Sources, name: &FlowName) -> Vec<String> {
    let mut reasons = Vec::new();
    let phase = sources.vitals.phase();
    if phase != Phase::Metering {
        reasons.push(format!("the agent is {}: not everything is metered", phase.label()));
    }
    let list = sources.metered.current();
    if list.metered.is_empty() {
        reasons.push("no interface is metered: see `interfaces` in the configuration".into());
    } else {
        let names: Vec<_> = list.metered.iter().map(|interface| interface.name.as_str()).collect();
        reasons
            .push(format!("only packets at these interfaces are metered: {}", shortened(&names)));
    }
    for refused in &list.refused {
        reasons.push(format!("{} is not metered: {}", refused.name, refused.why));
    }
    let others = unmetered(&list);
    if !others.is_empty() {
        let names: Vec<_> = others.iter().map(String::as_str).collect();
        reasons
            .push(format!("this host has interfaces that are not metered: {}", shortened(&names)));
    }
    rules(sources, name, &mut reasons);
    if name.ends.iter().any(|(address, _)| address.is_unspecified()) {
        reasons.push("an unspecified address stands for packets whose flow was lost".into());
    }
    books(sources, name, &mut reasons);
    reasons
}

/// Interfaces of the agent's own namespace that nobody meters.
fn unmetered(list: &MeteredList) -> Vec<String> {
    let is_metered = |name: &String| list.metered.iter().any(|it| it.name == *name);
    let all = link_counters().unwrap_or_default();
    all.into_keys().filter(|name| !is_metered(name)).collect()
}

/// What the rules say of the flow; of ports that are not said they say nothing.
pub fn left_out(sources: &Sources, name: &FlowName) -> Vec<LeftOut> {
    let mut said = sources.rules.current().judge(&name.flow_key(), &sources.hash_keys);
    if name.is_pair() {
        said.retain(|why| !matches!(why, LeftOut::Port | LeftOut::NotSampled));
    }
    said
}

fn rules(sources: &Sources, name: &FlowName, reasons: &mut Vec<String>) {
    let rules = sources.rules.current();
    let rate = match rules.sampling {
        Sampling::All => 1,
        Sampling::Flows(rate) | Sampling::Packets(rate) => rate,
    };
    let key = name.flow_key();
    if name.is_pair() {
        reasons.push(
            "it has no ports here: rules about ports and samples of flows are not \
                      judged; say both ports"
                .into(),
        );
    }
    for why in left_out(sources, name) {
        let rule = rules.rule(&key, why);
        reasons.push(match why {
            LeftOut::Protocol => format!("the filters leave out its protocol: {rule}"),
            LeftOut::Port => format!("the filters leave out its ports: {rule}"),
            LeftOut::Prefix => format!("the filters leave out its addresses: {rule}"),
            LeftOut::NotSampled => format!(
                "it is not in the sample: 1 in {rate} flows is metered, and not this one \
                 until the agent starts again"
            ),
            LeftOut::SomeSampled => format!("1 in {rate} packets is metered"),
            LeftOut::PerhapsOwn => "one of its ports is the store's: the agent's own connections \
                                    are left out (exclude_own_traffic)"
                .into(),
        });
    }
}

/// Whether packets were lost in the kernel while the flow was seen; nothing to say if none were
/// lost since the start, or nobody has the flow.
pub fn lost_meanwhile(sources: &Sources, levels: &[Level]) -> Option<String> {
    let totals = sources.ledger.totals();
    totals.iter().find(|(entry, count)| matches!(entry, Entry::Lost(_)) && count.packets > 0)?;
    let first = levels.iter().filter_map(|level| level.first.as_deref()).min()?;
    let last = levels.iter().filter_map(|level| level.last.as_deref()).max()?;
    let ns = |time: &str| {
        let time: jiff::Timestamp = time.parse().ok()?;
        u64::try_from(time.as_nanosecond()).ok()
    };
    let lost = sources.vitals.traffic().lost_between(ns(first)?, ns(last)?);
    Some(match lost {
        None => {
            "what was lost in the kernel while it was seen is not known any more: that is kept \
                 for a quarter of an hour"
                .into()
        }
        Some(0) => {
            format!("no packet was lost in the kernel while it was seen ({first} to {last})")
        }
        Some(packets) => format!(
            "{packets} packets, of this flow or others, were lost in the kernel in the drains \
             around the time in which it was seen ({first} to {last})"
        ),
    })
}

/// What the ledger has of packets without a flow: they have no key any more.
fn books(sources: &Sources, name: &FlowName, reasons: &mut Vec<String>) {
    for (entry, count) in sources.ledger.totals() {
        let packets = count.packets;
        let (stage, reason) = entry.labels();
        match entry {
            Entry::NotMetered(number) => {
                // No packet of a flow that has a name is one of these.
                let cannot_be = [NotMetered::Arp, NotMetered::Lldp, NotMetered::Other];
                if !cannot_be.contains(&NotMetered::ALL[usize::from(number)]) {
                    reasons.push(format!(
                        "{packets} packets since the start were not metered, reason {reason}"
                    ));
                }
            }
            Entry::Lost(_) => reasons.push(format!(
                "{packets} packets since the start were lost in the kernel, reason {reason}"
            )),
            Entry::LostRecord(_) => reasons.push(format!(
                "{packets} packets since the start are in no row, {stage} reason {reason}"
            )),
            Entry::FragmentWithoutPorts if name.has_ports() => reasons.push(format!(
                "{packets} later fragments since the start have ports 0, because their first \
                 was not seen"
            )),
            _ => {}
        }
    }
}

/// The first names of a list that may be long.
fn shortened(names: &[&str]) -> String {
    const MOST: usize = 20;
    let rest = names.len().saturating_sub(MOST);
    let first = names[..names.len().min(MOST)].join(", ");
    if rest == 0 { first } else { format!("{first} and {rest} more") }
}
