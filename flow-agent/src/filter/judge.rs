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
