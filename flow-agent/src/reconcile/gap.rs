//! The difference between driver and hooks at one interface, and what explains it.

use serde::Serialize;

use super::Reconciled;
use super::reading::Reading;
use crate::attach::Counters;

/// A part of the difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Packets that the hooks were given and the driver did not count; negative: the other way.
    pub packets: i64,
    /// Why.
    pub why: String,
}

/// Both sides at one interface, in packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// What the driver counted: received, and sent (not of `lo`, which gets back what it sends).
    pub driver: u64,
    /// It may be this much more or less, for what moved between two readings.
    pub driver_margin: u64,
    /// What the hooks were given.
    pub hooks: u64,
    /// What explains the difference.
    pub explained: Vec<Explained>,
    /// What nothing explains.
    pub unexplained: i64,
}

/// What is known beside the counts.
#[derive(Clone, Debug, Default)]
pub struct Circumstances {
    /// Why it was not metered all the time.
    pub absent: Option<String>,
    /// XDP programs of others that see packets first.
    pub xdp: Vec<String>,
    /// Dropped behind the egress hook by the queueing discipline.
    pub qdisc_drops: u64,
    /// And by the driver.
    pub driver_drops: u64,
    /// Octets behind the Ethernet headers that the driver counted.
    pub driver_octets: u64,
    /// Octets that the hooks were given.
    pub hook_octets: u64,
    /// Packets that the ledger itself does not explain.
    pub unaccounted: i64,
}

impl Gap {
    /// Explains what can be explained; the driver counted between `least` and `most` packets.
    pub fn explain(least: u64, most: u64, hooks: u64, known: &Circumstances) -> Self {
        let mut gap = Self {
            driver: u64::midpoint(least, most),
            driver_margin: (most - least).div_ceil(2),
            hooks,
            ..Self::default()
        };
        let left = if hooks > most {
            gap.hooks_have_more((hooks - most) as i64, known)
        } else if hooks < least {
            gap.driver_has_more((least - hooks) as i64, known)
        } else {
            0
        };
        gap.unexplained = left + known.unaccounted;
        gap
    }

    fn add(&mut self, packets: i64, why: impl Into<String>) {
        if packets != 0 {
            self.explained.push(Explained { packets, why: why.into() });
        }
    }

    /// Leaves what stays unexplained.
    fn hooks_have_more(&mut self, more: i64, known: &Circumstances) -> i64 {
        let mut left = more;
        let dropped = left.min(known.qdisc_drops as i64);
        self.add(dropped, "dropped by the queueing discipline (`tc -s qdisc`), behind the hook");
        left -= dropped;
        let dropped = left.min(known.driver_drops as i64);
        self.add(dropped, "dropped by the driver, behind the hook (`ip -s link`: TX dropped)");
        left -= dropped;
        let octets = known.hook_octets as i64 - known.driver_octets as i64;
        if left > 0 && is_headers(octets, left) {
            let why = format!(
                "super-packets (GSO, GRO): the driver counts one, the hooks the packets that go \
                 on the wire; the octets agree: {} of headers each",
                octets / left
            );
            self.add(left, why);
            left = 0;
        }
        left
    }

    fn driver_has_more(&mut self, more: i64, known: &Circumstances) -> i64 {
        if let Some(absent) = &known.absent {
            self.add(-more, absent.clone());
            return 0;
        }
        if !known.xdp.is_empty() {
            let why = format!(
                "kept from the hook by another program that sees packets first: {}",
                known.xdp.join(", ")
            );
            self.add(-more, why);
            return 0;
        }
        -more
    }
}

/// True if so many octets more are what the headers of so many packets more take: 20 of IPv4 and
/// 8 of UDP at least; IPv6, extension headers, TCP options and a tunnel at most.
fn is_headers(octets: i64, packets: i64) -> bool {
    (20..=200).contains(&(octets / packets.max(1)))
}

/// Compares one interface.
pub fn reconcile(name: &str, before: &Reading, after: &Reading) -> Reconciled {
    let loopback = name.rsplit('/').next() == Some("lo");
    let side = |of: fn(&Counters) -> (u64, u64)| {
        let between = |from: usize, to: usize| {
            let (from, to) = (of(&driver(before, from, name)), of(&driver(after, to, name)));
            let sent = if loopback { 0 } else { to.1.saturating_sub(from.1) };
            to.0.saturating_sub(from.0) + sent
        };
        // The ledger was read behind the first look at the drivers and before the second.
        (between(1, 0), between(0, 1))
    };
    let packets = side(|it| (it.rx_packets, it.tx_packets));
    let octets = side(|it| (it.rx_bytes, it.tx_bytes));
    let booked = |stage: &str, reason: Option<&str>| {
        let (to, from) = (after.booked(name, stage, reason), before.booked(name, stage, reason));
        (to.0.saturating_sub(from.0), to.1.saturating_sub(from.1))
    };
    let seen = booked("seen", None);
    let mut ledger = vec![("metered".to_owned(), booked("metered", None).0)];
    for stage in ["not_metered", "lost", "undelivered"] {
        let reasons = after.ledger[name][stage].as_object();
        for reason in reasons.into_iter().flat_map(|reasons| reasons.keys()) {
            ledger.push((format!("{stage}: {reason}"), booked(stage, Some(reason)).0));
        }
    }
    ledger.retain(|(_, packets)| *packets > 0);
    let undelivered = |stage: &str| stage.starts_with("undelivered");
    let explained: u64 =
        ledger.iter().filter(|(stage, _)| !undelivered(stage)).map(|(_, packets)| packets).sum();
    let (first, last) = (driver(before, 0, name), driver(after, 1, name));
    let known = Circumstances {
        absent: absent(name, before, after),
        xdp: others(name, before, after),
        qdisc_drops: last.qdisc_drops.saturating_sub(first.qdisc_drops),
        driver_drops: last.tx_dropped.saturating_sub(first.tx_dropped),
        driver_octets: (octets.1).saturating_sub(14 * packets.1),
        hook_octets: seen.1,
        unaccounted: seen.0 as i64 - explained as i64,
    };
    let metered = after.metered.get(name).or_else(|| before.metered.get(name));
    Reconciled {
        interface: name.to_owned(),
        ingress: metered.map(|it| it.ingress.clone()),
        gap: Gap::explain(packets.0, packets.1.max(packets.0), seen.0, &known),
        ledger,
    }
}

fn driver(reading: &Reading, which: usize, name: &str) -> Counters {
    reading.drivers[which].get(name).copied().unwrap_or_default()
}

/// Why it was not metered in the whole interval.
fn absent(name: &str, before: &Reading, after: &Reading) -> Option<String> {
    let refused = after.refused.get(name).or_else(|| before.refused.get(name));
    let (first, last) = (before.metered.get(name), after.metered.get(name));
    Some(match (first, last) {
        (Some(first), Some(last)) if first.number == last.number => return None,
        (Some(_), Some(_)) => "detached and attached again meanwhile: nobody metered it".into(),
        (Some(_), None) => "detached meanwhile: nobody meters it".into(),
        (None, Some(_)) => "attached only meanwhile: nobody metered it before".into(),
        (None, None) => match refused {
            Some(why) => format!("not metered, it refuses: {why}"),
            None => "not metered: the configuration does not ask for it (`interfaces`)".into(),
        },
    })
}

/// XDP programs of others, at either reading.
fn others(name: &str, before: &Reading, after: &Reading) -> Vec<String> {
    let attached = [before, after].into_iter().filter_map(|reading| reading.attached.get(name));
    let foreign = attached.flatten().filter(|it| !it.ours && it.hook.ends_with("XDP"));
    let mut names: Vec<_> =
        foreign.map(|it| format!("{} {} (id {})", it.hook, it.name, it.id)).collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_moves_between_two_readings_is_no_difference() {
        let gap = Gap::explain(90, 110, 100, &Circumstances::default());
        assert_eq!((gap.unexplained, gap.driver, gap.driver_margin), (0, 100, 10));
        assert!(gap.explained.is_empty());
    }

    #[test]
    fn super_packets_explain_more_only_with_octets_for_their_headers() {
        let known = Circumstances {
            driver_octets: 10_000,
            hook_octets: 10_400,
            ..Circumstances::default()
        };
        let gap = Gap::explain(5, 5, 15, &known);
        assert_eq!((gap.unexplained, gap.explained[0].packets), (0, 10));
        let known = Circumstances { hook_octets: 90_000, ..known };
        assert_eq!(Gap::explain(5, 5, 15, &known).unexplained, 10);
    }

    #[test]
    fn packets_that_no_hook_saw_need_a_reason() {
        let gap = |known: &Circumstances| Gap::explain(100, 100, 60, known);
        assert_eq!(gap(&Circumstances::default()).unexplained, -40);
        let xdp =
            Circumstances { xdp: vec!["generic XDP drop".into()], ..Circumstances::default() };
        assert_eq!((gap(&xdp).unexplained, gap(&xdp).explained[0].packets), (0, -40));
        let absent = Circumstances { absent: Some("detached".into()), ..Circumstances::default() };
        assert_eq!(gap(&absent).unexplained, 0);
        let books = Circumstances { unaccounted: 3, ..xdp };
        assert_eq!(gap(&books).unexplained, 3, "what the ledger does not explain is not");
    }

    proptest! {
        #[test]
        fn the_parts_are_the_difference(
            least in 0_u64..1000, width in 0_u64..100, hooks in 0_u64..2000,
            qdisc_drops in 0_u64..50, driver_drops in 0_u64..50, octets in 0_u64..100_000,
            absent in any::<bool>(),
        ) {
            let absent = absent.then(|| "detached".to_owned());
            let known = Circumstances {
                absent, qdisc_drops, driver_drops, hook_octets: octets, ..Circumstances::default()
            };
            let most = least + width;
            let gap = Gap::explain(least, most, hooks, &known);
            let parts: i64 = gap.explained.iter().map(|part| part.packets).sum();
            let nearest = hooks.clamp(least, most);
            prop_assert_eq!(parts + gap.unexplained, hooks as i64 - nearest as i64);
        }
    }
}
