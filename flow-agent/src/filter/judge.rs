//! What the rules say of one flow, as the programs in the kernel decide it
//! (`flow-ebpf/src/filter.rs`), for people who ask why it is not there.

use flow_common::filter::{has_ports, sampling_hash, threshold};
use flow_common::hash::HashKeys;
use flow_common::key::protocol;
use flow_common::{Address, FlowKey};

use super::{Ports, Rules, Sampling, Verdict};

/// Why the packets of a flow are not metered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// Its protocol is excluded, or is none of the included.
    Protocol,
    /// One of its ports is excluded, or neither is included.
    Port,
    /// One of its addresses is excluded, or neither is included.
    Prefix,
    /// It is not in the sample.
    NotSampled,
    /// Only some of its packets are in the sample.
    SomeSampled,
    /// It goes to the store's port: if it is the agent's own connection, it is left out.
    PerhapsOwn,
}

impl Rules {
    /// Why packets of this flow are not metered, everything that is so; `keys` are those of
    /// the kernel's hashes.
    pub fn judge(&self, key: &FlowKey, keys: &HashKeys) -> Vec<LeftOut> {
        let mut left_out = Vec::new();
        let mut add = |is_so: bool, why: LeftOut| {
            if is_so {
                left_out.push(why);
            }
        };
        add(self.is_perhaps_own(key), LeftOut::PerhapsOwn);
        add(!self.protocol_passes(key.protocol), LeftOut::Protocol);
        add(!self.ports_pass(key), LeftOut::Port);
        add(!self.prefixes_pass(key), LeftOut::Prefix);
        match self.sampling {
            Sampling::All => {}
            Sampling::Flows(rate) => {
                let number = sampling_hash(key, |at| keys[at]);
                add(number > threshold(rate), LeftOut::NotSampled);
            }
            Sampling::Packets(_) => add(true, LeftOut::SomeSampled),
        }
        left_out
    }

    /// The rule that decides so, as it stands in the configuration; `why` is one of what
    /// [`Rules::judge`] says.
    pub fn rule(&self, key: &FlowKey, why: LeftOut) -> String {
        let names = |list: &[u8]| {
            let names: Vec<_> = list.iter().map(ToString::to_string).collect();
            names.join(", ")
        };
        match why {
            LeftOut::Protocol if self.exclude_protocols.contains(&key.protocol) => {
                format!("exclude_protocols has {}", key.protocol)
            }
            LeftOut::Protocol => {
                format!("include_protocols has only {}", names(&self.include_protocols))
            }
            LeftOut::Port => {
                let ports = [key.src_port, key.dst_port];
                let hit = self.exclude_ports.iter().find(|Ports(range)| {
                    has_ports(key) && ports.iter().any(|port| range.contains(port))
                });
                match hit {
                    Some(Ports(range)) if range.start() == range.end() => {
                        format!("exclude_ports has {}", range.start())
                    }
                    Some(Ports(range)) => {
                        format!("exclude_ports has {}-{}", range.start(), range.end())
                    }
                    None => "include_ports has none of its ports".into(),
                }
            }
            LeftOut::Prefix => {
                let of = |address: &Address| {
                    let list = self.prefixes.iter().filter(|(it, _)| it.contains(address));
                    list.max_by_key(|(prefix, _)| prefix.bits())
                };
                let decides = [&key.src, &key.dst].into_iter().filter_map(of);
                let mut excludes = decides.filter(|(_, said)| **said == Verdict::Exclude);
                match excludes.next() {
                    Some((prefix, _)) => format!("exclude has {prefix}"),
                    None => "include has none of its addresses".into(),
                }
            }
            LeftOut::NotSampled | LeftOut::SomeSampled => "[sampling]".into(),
            LeftOut::PerhapsOwn => "exclude_own_traffic".into(),
        }
    }

    fn is_perhaps_own(&self, key: &FlowKey) -> bool {
        let to =
            |port| key.protocol == protocol::TCP && [key.src_port, key.dst_port].contains(&port);
        self.own_port.is_some_and(to)
    }

    fn protocol_passes(&self, protocol: u8) -> bool {
        let included = &self.include_protocols;
        (included.is_empty() || included.contains(&protocol))
            && !self.exclude_protocols.contains(&protocol)
    }

    fn ports_pass(&self, key: &FlowKey) -> bool {
        let one_of = |list: &[Ports]| {
            has_ports(key)
                && list.iter().any(|Ports(range)| {
                    range.contains(&key.src_port) || range.contains(&key.dst_port)
                })
        };
        (self.include_ports.is_empty() || one_of(&self.include_ports))
            && !one_of(&self.exclude_ports)
    }

    fn prefixes_pass(&self, key: &FlowKey) -> bool {
        let said = [&key.src, &key.dst].map(|address| self.prefix_says(address));
        let includes = self.prefixes.values().any(|verdict| *verdict == Verdict::Include);
        !said.contains(&Some(Verdict::Exclude))
            && (!includes || said.contains(&Some(Verdict::Include)))
    }

    /// What the longest prefix of an address says.
    fn prefix_says(&self, address: &Address) -> Option<Verdict> {
        let of = self.prefixes.iter().filter(|(prefix, _)| prefix.contains(address));
        of.max_by_key(|(prefix, _)| prefix.bits()).map(|(_, verdict)| *verdict)
    }
}

#[cfg(test)]
mod tests {
    use flow_common::hash::keys_from;

    use super::*;

    fn key(src: [u8; 4], dst: [u8; 4], ports: (u16, u16), protocol: u8) -> FlowKey {
        FlowKey {
            src: src.into(),
            dst: dst.into(),
            src_port: ports.0,
            dst_port: ports.1,
            protocol,
            ..FlowKey::default()
        }
    }

    fn rules(include: &[&str], exclude: &[&str]) -> Rules {
        let each = |list: &[&str], verdict| -> Vec<_> {
            list.iter().map(|text| (text.parse().expect("a prefix"), verdict)).collect()
        };
        let prefixes = each(include, Verdict::Include);
        let prefixes = prefixes.into_iter().chain(each(exclude, Verdict::Exclude)).collect();
        Rules { prefixes, ..Rules::default() }
    }

    fn judge(rules: &Rules, key: &FlowKey) -> Vec<LeftOut> {
        rules.judge(key, &keys_from(1))
    }

    #[test]
    fn the_longest_prefix_of_each_address_decides() {
        let (host, other) = ([10, 1, 2, 3], [192, 0, 2, 1]);
        let flow = key(host, other, (1, 2), 17);
        for (include, exclude, passes) in [
            (&[][..], &[][..], true),
            (&["10.0.0.0/8"], &[], true),
            (&["10.0.0.0/8"], &["10.1.0.0/16"], false),
            (&["10.1.2.0/24"], &["10.1.0.0/16"], true),
            (&["10.1.2.0/24"], &["192.0.2.1"], false),
            (&["172.16.0.0/12"], &[], false),
            (&[], &["172.16.0.0/12"], true),
            (&["::/0"], &[], false),
            (&[], &["::/0"], true),
            (&[], &["0.0.0.0/0"], false),
        ] {
            let expected = if passes { vec![] } else { vec![LeftOut::Prefix] };
            assert_eq!(judge(&rules(include, exclude), &flow), expected, "{include:?} {exclude:?}");
        }
    }

    #[test]
    fn ports_count_for_what_has_them_and_everything_that_is_so_is_said() {
        let ports = |text: &str| vec![text.parse().expect("ports")];
        let (tcp, icmp) = (key([1; 4], [2; 4], (514, 9), 6), key([1; 4], [2; 4], (0, 514), 1));
        let excluding = Rules { exclude_ports: ports("500-520"), ..Rules::default() };
        assert_eq!(judge(&excluding, &tcp), [LeftOut::Port]);
        assert_eq!(judge(&excluding, &icmp), []);
        let including = Rules { include_ports: ports("514"), ..Rules::default() };
        assert_eq!(judge(&including, &tcp), []);
        assert_eq!(judge(&including, &icmp), [LeftOut::Port]);
        let all = Rules {
            exclude_protocols: vec![6],
            own_port: Some(9),
            sampling: Sampling::Packets(2),
            ..excluding
        };
        let expected =
            [LeftOut::PerhapsOwn, LeftOut::Protocol, LeftOut::Port, LeftOut::SomeSampled];
        assert_eq!(judge(&all, &tcp), expected);
        let included = Rules { include_protocols: vec![17], ..Rules::default() };
        assert_eq!(judge(&included, &tcp), [LeftOut::Protocol]);
    }

    #[test]
    fn a_share_of_the_flows_is_in_the_sample_both_ways_alike() {
        let rules = Rules { sampling: Sampling::Flows(4), ..Rules::default() };
        let mut sampled = 0;
        for port in 0..4_000 {
            let there = key([10, 0, 0, 1], [10, 0, 0, 2], (port, 53), 17);
            let back = key([10, 0, 0, 2], [10, 0, 0, 1], (53, port), 17);
            let left_out = judge(&rules, &there);
            assert_eq!(left_out, judge(&rules, &back));
            sampled += usize::from(left_out.is_empty());
        }
        // Seven standard deviations.
        assert!((800..1_200).contains(&sampled), "{sampled}");
    }
}
