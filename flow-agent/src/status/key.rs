//! The key of a flow as a person writes it: `tcp,10.0.0.1:443,10.0.0.2:51234`.
//!
//! Protocol by name or number, then both ends in any order. Ends of TCP, UDP, UDP-Lite,
//! SCTP and DCCP are `ADDRESS:PORT`, an IPv6 address in brackets; other ends are addresses,
//! with or without brackets. Interface, VLAN and tunnel are any.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use flow_common::filter::has_ports;
use flow_common::key::protocol;
use flow_common::{Address, FlowKey};

use crate::batch::RowKey;
use crate::cache::FlowQuery;
use crate::filter;
use crate::record::FlowRecord;

/// A flow that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowName {
    /// IP protocol.
    pub protocol: u8,
    /// Both ends; the ports are 0 for protocols without.
    pub ends: [(IpAddr, u16); 2],
}

const FORM: &str = "write PROTOCOL,END,END, for example tcp,10.0.0.1:443,10.0.0.2:51234, \
                    udp,[2001:db8::1]:53,[2001:db8::2]:40000 or icmp,10.0.0.1,10.0.0.2";

impl FlowName {
    /// The question to the cache.
    pub fn query(&self) -> FlowQuery {
        let [(src, src_port), (dst, dst_port)] = self.ends;
        let port = |port| self.has_ports().then_some(port);
        FlowQuery {
            src,
            dst,
            src_port: port(src_port),
            dst_port: port(dst_port),
            protocol: Some(self.protocol),
        }
    }

    /// True for packets of the flow, in either direction.
    pub fn matches(&self, key: &FlowKey) -> bool {
        self.query().matches(key)
    }

    /// True for records of the flow.
    pub fn matches_record(&self, record: &FlowRecord) -> bool {
        self.matches_row(&RowKey::from(record))
    }

    /// True for rows of the flow.
    pub fn matches_row(&self, record: &RowKey) -> bool {
        let [a, b] = self.ends.map(|(address, port)| (octets(address), port));
        let (src, dst) = ((record.src, record.src_port), (record.dst, record.dst_port));
        record.protocol == self.protocol && ((src, dst) == (a, b) || (src, dst) == (b, a))
    }

    /// The key of its packets from the first end, of no interface.
    pub fn flow_key(&self) -> FlowKey {
        let [(src, src_port), (dst, dst_port)] = self.ends;
        let address = |address| Address::from(octets(address));
        FlowKey {
            src: address(src),
            dst: address(dst),
            src_port,
            dst_port,
            protocol: self.protocol,
            ..FlowKey::default()
        }
    }

    /// True for protocols whose ends have ports.
    pub fn has_ports(&self) -> bool {
        has_ports(&FlowKey { protocol: self.protocol, ..FlowKey::default() })
    }
}

/// The name of a flow with this key.
pub fn of(key: &FlowKey) -> FlowName {
    let address = |address: Address| IpAddr::from(address.octets()).to_canonical();
    let name =
        FlowName { protocol: key.protocol, ends: [(address(key.src), 0), (address(key.dst), 0)] };
    if !name.has_ports() {
        return name;
    }
    let [(src, _), (dst, _)] = name.ends;
    FlowName { ends: [(src, key.src_port), (dst, key.dst_port)], ..name }
}

/// As rows have it: IPv4 mapped.
pub fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

impl FromStr for FlowName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<_> = text.split(',').map(str::trim).collect();
        let [name, a, b] = parts[..] else {
            return Err(format!("{text:?} is no flow: {FORM}"));
        };
        let protocol = filter::protocol(name)?;
        let ported = Self { protocol, ends: [(IpAddr::from([0; 4]), 0); 2] }.has_ports();
        let end = |text: &str| if ported { end_with_port(text) } else { end_without_port(text) };
        let bad = |text: &str| {
            let what = if ported { "ADDRESS:PORT" } else { "address without a port" };
            format!("{text:?} is no end of a flow of {name:?}, which is an {what}: {FORM}")
        };
        let ends = [end(a).ok_or_else(|| bad(a))?, end(b).ok_or_else(|| bad(b))?];
        if ends[0].0.is_ipv4() != ends[1].0.is_ipv4() {
            return Err(format!("{a} and {b} are of two address families: no packet has both"));
        }
        if ends[0].0.is_ipv6() && name.eq_ignore_ascii_case("icmp") {
            return Err(format!("{a} is an IPv6 address: write icmpv6 instead of icmp"));
        }
        Ok(Self { protocol, ends })
    }
}

fn end_with_port(text: &str) -> Option<(IpAddr, u16)> {
    let end: SocketAddr = text.parse().ok()?;
    Some((end.ip().to_canonical(), end.port()))
}

fn end_without_port(text: &str) -> Option<(IpAddr, u16)> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    Some((bare.parse::<IpAddr>().ok()?.to_canonical(), 0))
}

/// The name of a protocol in keys, else its number.
pub(super) fn protocol_name(number: u8) -> String {
    match number {
        protocol::TCP => "tcp".into(),
        protocol::UDP => "udp".into(),
        protocol::ICMP => "icmp".into(),
        protocol::ICMPV6 => "icmpv6".into(),
        number => number.to_string(),
    }
}

impl Display for FlowName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&protocol_name(self.protocol))?;
        for (address, port) in self.ends {
            if self.has_ports() {
                write!(f, ",{}", SocketAddr::new(address, port))?;
            } else if address.is_ipv6() {
                write!(f, ",[{address}]")?;
            } else {
                write!(f, ",{address}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_families_and_protocols_without_ports() {
        for (text, printed) in [
            ("tcp,10.0.0.1:443,10.0.0.2:51234", "tcp,10.0.0.1:443,10.0.0.2:51234"),
            ("6, 10.0.0.1:443 ,10.0.0.2:1", "tcp,10.0.0.1:443,10.0.0.2:1"),
            ("UDP,[2001:db8::1]:53,[::1]:9", "udp,[2001:db8::1]:53,[::1]:9"),
            ("tcp,[::ffff:10.0.0.1]:1,10.0.0.2:2", "tcp,10.0.0.1:1,10.0.0.2:2"),
            ("icmp,10.0.0.1,10.0.0.2", "icmp,10.0.0.1,10.0.0.2"),
            ("icmpv6,2001:db8::1,[fe80::1]", "icmpv6,[2001:db8::1],[fe80::1]"),
            ("gre,10.0.0.1,10.0.0.2", "47,10.0.0.1,10.0.0.2"),
            ("sctp,10.0.0.1:1,10.0.0.2:2", "132,10.0.0.1:1,10.0.0.2:2"),
        ] {
            let name: FlowName = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(name.to_string(), printed);
            assert_eq!(printed.parse(), Ok(name));
        }
    }

    #[test]
    fn what_is_no_flow_is_refused_with_the_form() {
        for (text, words) in [
            ("", "\"\" is no flow: write PROTOCOL,END,END"),
            ("tcp,10.0.0.1:443", "write PROTOCOL,END,END"),
            ("tpc,10.0.0.1:443,10.0.0.2:1", "\"tpc\" is no protocol"),
            ("tcp,10.0.0.1,10.0.0.2:1", "\"10.0.0.1\" is no end of a flow of \"tcp\""),
            ("tcp,10.0.0.1:65536,10.0.0.2:1", "ADDRESS:PORT"),
            ("tcp,2001:db8::1:443,[::1]:1", "ADDRESS:PORT"),
            ("icmp,10.0.0.1:8,10.0.0.2", "address without a port"),
            ("tcp,10.0.0.1:1,[2001:db8::1]:2", "two address families"),
            ("icmp,2001:db8::1,2001:db8::2", "write icmpv6"),
            ("tcp,host:1,10.0.0.2:1", "\"host:1\" is no end"),
        ] {
            let error = text.parse::<FlowName>().expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn icmp_of_any_type_is_the_flow() {
        let name: FlowName = "icmp,10.0.0.1,10.0.0.2".parse().expect("valid");
        let request = FlowKey { dst_port: 8 << 8, ..name.flow_key() };
        let (src, dst) = (request.dst, request.src);
        assert!(name.matches(&request));
        assert!(name.matches(&FlowKey { src, dst, dst_port: 0, ..request }));
        assert!(!name.matches(&FlowKey { protocol: 17, ..request }));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_understood_and_either_direction_matches(
            number in 0u8..,
            hosts in any::<([u8; 4], [u8; 4])>(),
            wide in any::<Option<([u8; 16], [u8; 16])>>(),
            ports in any::<(u16, u16)>(),
        ) {
            let (a, b) = match wide {
                Some((a, b)) => (IpAddr::from(a).to_canonical(), IpAddr::from(b).to_canonical()),
                None => (hosts.0.into(), hosts.1.into()),
            };
            prop_assume!(a.is_ipv4() == b.is_ipv4() && !(number == 1 && a.is_ipv6()));
            let mut name = FlowName { protocol: number, ends: [(a, ports.0), (b, ports.1)] };
            if !name.has_ports() {
                name.ends = [(a, 0), (b, 0)];
            }
            prop_assert_eq!(name.to_string().parse(), Ok(name));
            let key = name.flow_key();
            prop_assert_eq!(of(&key), name);
            let back = FlowKey {
                src: key.dst,
                dst: key.src,
                src_port: key.dst_port,
                dst_port: key.src_port,
                ..key
            };
            prop_assert!(name.matches(&key) && name.matches(&back));
            let other = FlowKey { protocol: key.protocol ^ 1, ..key };
            prop_assert!(!name.matches(&other));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _ = text.parse::<FlowName>();
        }
    }
}
