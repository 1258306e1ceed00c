//! Which open flows are meant: by key, prefix, interface, version, or all.

use std::net::IpAddr;

use flow_common::{Address, FlowKey};

use crate::filter::Prefix;

/// A flow as a person names it; either end may come first, and the interface is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowQuery {
    /// One end.
    pub src: IpAddr,
    /// The other.
    pub dst: IpAddr,
    /// The port of `src`; none for any, and for ICMP.
    pub src_port: Option<u16>,
    /// The port of `dst`.
    pub dst_port: Option<u16>,
    /// IP protocol; none for any.
    pub protocol: Option<u8>,
}

impl FlowQuery {
    /// True for a flow with this key, in any direction.
    pub fn matches(&self, key: &FlowKey) -> bool {
        let (src, dst) = (address(self.src), address(self.dst));
        let port = |wanted: Option<u16>, port| wanted.is_none_or(|wanted| wanted == port);
        let (low, high) = if key.is_icmp() { (0, 0) } else { (key.src_port, key.dst_port) };
        let is = |from, from_port, to, to_port| {
            (from, to) == (src, dst)
                && port(self.src_port, from_port)
                && port(self.dst_port, to_port)
        };
        self.protocol.is_none_or(|protocol| protocol == key.protocol)
            && (is(key.src, low, key.dst, high) || is(key.dst, high, key.src, low))
    }
}

fn address(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

/// What is invalidated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// One flow, at every interface.
    Key(FlowQuery),
    /// Flows with an end in this network.
    Prefix(Prefix),
    /// Flows at the interface with this number of the agent.
    Interface(u16),
    /// Flows that were counted by this version of the agent. A cache has flows of the running
    /// version only, so it is all or nothing.
    Version(String),
    /// Every flow.
    All,
}

impl Selection {
    /// True for a flow with this key.
    pub fn matches(&self, key: &FlowKey) -> bool {
        match self {
            Self::Key(query) => query.matches(key),
            Self::Prefix(prefix) => prefix.contains(&key.src) || prefix.contains(&key.dst),
            Self::Interface(number) => key.interface == *number,
            Self::Version(version) => version == env!("CARGO_PKG_VERSION"),
            Self::All => true,
        }
    }
}

/// What was invalidated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Invalidated {
    /// Flows.
    pub flows: u64,
    /// Packets in the records that were emitted for them.
    pub packets: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> FlowKey {
        FlowKey {
            src: [10, 0, 0, 1].into(),
            dst: [192, 0, 2, 7].into(),
            src_port: 4000,
            dst_port: 443,
            protocol: 6,
            interface: 3,
            ..FlowKey::default()
        }
    }

    #[test]
    fn a_query_is_of_either_direction_and_what_it_leaves_open_is_any() {
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([192, 0, 2, 7]));
        let query = FlowQuery {
            src: a,
            dst: b,
            src_port: Some(4000),
            dst_port: Some(443),
            protocol: Some(6),
        };
        let back = FlowQuery { src: b, dst: a, src_port: Some(443), dst_port: Some(4000), ..query };
        let loose = FlowQuery { src_port: None, protocol: None, ..query };
        for query in [query, back, loose] {
            assert!(query.matches(&key()), "{query:?}");
        }
        for query in [
            FlowQuery { protocol: Some(17), ..query },
            FlowQuery { src_port: Some(443), dst_port: Some(4000), ..query },
            FlowQuery { src: b, ..query },
        ] {
            assert!(!query.matches(&key()), "{query:?}");
        }
        // Type and code are no ports.
        let ping = FlowKey { protocol: 1, src_port: 0, dst_port: 8 << 8, ..key() };
        let query = FlowQuery { src_port: None, dst_port: Some(0), protocol: None, ..query };
        assert!(query.matches(&ping));
    }

    #[test]
    fn selections_match_by_either_end() {
        let prefix = |text: &str| Selection::Prefix(text.parse().expect("a prefix"));
        for (selection, expected) in [
            (prefix("10.0.0.0/8"), true),
            (prefix("192.0.2.7"), true),
            (prefix("10.0.1.0/24"), false),
            (prefix("::/0"), false),
            (prefix("0.0.0.0/0"), true),
            (Selection::Interface(3), true),
            (Selection::Interface(4), false),
            (Selection::Version(env!("CARGO_PKG_VERSION").into()), true),
            (Selection::Version("0.0.0".into()), false),
            (Selection::All, true),
        ] {
            assert_eq!(selection.matches(&key()), expected, "{selection:?}");
        }
    }
}
