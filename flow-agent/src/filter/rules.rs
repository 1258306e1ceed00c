//! What is metered, checked and in the kernel side's terms.

use std::collections::BTreeMap;

use flow_common::filter::{Filter, PORT_WORDS, PortWord, flag, threshold};

use super::{Ports, Prefix};

/// What a prefix does to the addresses for which it is the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Their packets are metered.
    Include = flow_common::filter::prefix::INCLUDE as isize,
    /// They are not.
    Exclude = flow_common::filter::prefix::EXCLUDE as isize,
}

/// Which packets that pass the filters are metered. Rates are from 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sampling {
    /// All.
    #[default]
    All,
    /// All of 1 in so many flows.
    Flows(u32),
    /// 1 in so many.
    Packets(u32),
}

impl Sampling {
    /// How many packets each metered one stands for.
    pub const fn weight(self) -> u32 {
        match self {
            Self::All => 1,
            Self::Flows(rate) | Self::Packets(rate) => rate,
        }
    }
}

/// What is metered. The default is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// For each address the longest of these decides.
    pub prefixes: BTreeMap<Prefix, Verdict>,
    /// Of these a packet must have one; none: any.
    pub include_ports: Vec<Ports>,
    /// These it must not have.
    pub exclude_ports: Vec<Ports>,
    /// Of these it must have one; none: any.
    pub include_protocols: Vec<u8>,
    /// These it must not have.
    pub exclude_protocols: Vec<u8>,
    /// What is taken of the rest.
    pub sampling: Sampling,
    /// The store's port, when the agent's own connections to it are left out.
    pub own_port: Option<u16>,
}

impl Rules {
    /// The kernel side's record of them.
    pub fn filter(&self) -> Filter {
        let mut filter = Filter { protocols: self.protocols(), ..Filter::default() };
        let mut set = |on: bool, flags: u32| filter.flags |= if on { flags } else { 0 };
        set(self.own_port.is_some(), flag::OWN_TRAFFIC);
        set(!self.prefixes.is_empty(), flag::PREFIXES);
        let includes = self.prefixes.values().any(|verdict| *verdict == Verdict::Include);
        set(includes, flag::INCLUDE_PREFIXES);
        set(!self.include_ports.is_empty() || !self.exclude_ports.is_empty(), flag::PORTS);
        set(!self.include_ports.is_empty(), flag::INCLUDE_PORTS);
        set(filter.protocols != [u64::MAX; 4], flag::PROTOCOLS);
        match self.sampling {
            Sampling::All => {}
            Sampling::Flows(_) => filter.flags |= flag::SAMPLE_FLOWS,
            Sampling::Packets(_) => filter.flags |= flag::SAMPLE_PACKETS,
        }
        filter.threshold = threshold(self.sampling.weight());
        filter.own_port = self.own_port.unwrap_or_default();
        filter
    }

    /// One bit for each protocol that is metered.
    fn protocols(&self) -> [u64; 4] {
        let bits = |numbers: &[u8]| {
            let mut bits = [0; 4];
            for number in numbers {
                bits[usize::from(number >> 6)] |= 1 << (number & 63);
            }
            bits
        };
        let none = self.include_protocols.is_empty();
        let include = if none { [u64::MAX; 4] } else { bits(&self.include_protocols) };
        let exclude = bits(&self.exclude_protocols);
        std::array::from_fn(|word| include[word] & !exclude[word])
    }

    /// Two bits for each port.
    pub fn port_words(&self) -> Vec<PortWord> {
        let mut words = vec![PortWord::default(); PORT_WORDS as usize];
        let mut set = |ports: &[Ports], word_of: fn(&mut PortWord) -> &mut u64| {
            for port in ports.iter().flat_map(|ports| ports.0.clone()) {
                *word_of(&mut words[usize::from(port >> 6)]) |= 1 << (port & 63);
            }
        };
        set(&self.include_ports, |word| &mut word.include);
        set(&self.exclude_ports, |word| &mut word.exclude);
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rules_cost_nothing() {
        assert_eq!(Rules::default().filter().flags, 0);
    }

    #[test]
    fn only_what_is_used_is_switched_on() {
        let ports = |text: &str| vec![text.parse().expect("ports")];
        let rules = Rules { exclude_ports: ports("22"), ..Rules::default() };
        assert_eq!(rules.filter().flags, flag::PORTS);
        assert_eq!(rules.port_words()[0], PortWord { include: 0, exclude: 1 << 22 });
        let rules = Rules { include_ports: ports("63-64"), ..Rules::default() };
        assert_eq!(rules.filter().flags, flag::PORTS | flag::INCLUDE_PORTS);
        assert_eq!(rules.port_words()[0].include, 1 << 63);
        assert_eq!(rules.port_words()[1].include, 1);
        let rules = Rules { exclude_protocols: vec![6], ..Rules::default() };
        assert_eq!(rules.filter().protocols[0], !(1 << 6));
        let rules = Rules {
            include_protocols: vec![6, 17, 255],
            exclude_protocols: vec![17],
            sampling: Sampling::Flows(4),
            ..Rules::default()
        };
        let filter = rules.filter();
        assert_eq!(filter.protocols, [1 << 6, 0, 0, 1 << 63]);
        assert_eq!(filter.flags, flag::PROTOCOLS | flag::SAMPLE_FLOWS);
        assert_eq!(filter.threshold, (1 << 30) - 1);
    }
}
