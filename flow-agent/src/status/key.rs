//! The key of a flow as a person writes it: `tcp 10.0.0.1:443 -> 10.0.0.2:51234`, or
//! `tcp,10.0.0.1:443,10.0.0.2:51234`.
//!
//! Protocol by name or number, then both ends in any order; the arrow may be `->`, `<-`, `<->` or
//! nothing, and means the same. Ends of TCP, UDP, UDP-Lite, SCTP and DCCP are `ADDRESS:PORT`, an
//! IPv6 address in brackets, or an address alone for any port; other ends are addresses, with or
//! without brackets. Interface, VLAN and tunnel are any.

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
    /// Both ends; without a port any is meant, and there is none for protocols without.
    pub ends: [(IpAddr, Option<u16>); 2],
}

const FORM: &str = "write PROTOCOL,END,END or 'PROTOCOL END -> END', for example \
                    tcp,10.0.0.1:443,10.0.0.2:51234, 'udp [2001:db8::1]:53 <-> [2001:db8::2]' \
                    or icmp,10.0.0.1,10.0.0.2";

impl FlowName {
    /// The question to the cache.
    pub fn query(&self) -> FlowQuery {
        let [(src, src_port), (dst, dst_port)] = self.ends;
        FlowQuery { src, dst, src_port, dst_port, protocol: Some(self.protocol) }
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
        let is = |(address, port): (IpAddr, Option<u16>), its: ([u8; 16], u16)| {
            octets(address) == its.0 && port.is_none_or(|port| port == its.1)
        };
        let [a, b] = self.ends;
        let (src, dst) = ((record.src, record.src_port), (record.dst, record.dst_port));
        record.protocol == self.protocol && (is(a, src) && is(b, dst) || is(b, src) && is(a, dst))
    }

    /// True if ports are missing: more than one flow may be meant.
    pub fn is_pair(&self) -> bool {
        self.has_ports() && self.ends.iter().any(|(_, port)| port.is_none())
    }

    /// The key of its packets from the first end, of no interface; ports that are not said are 0.
    pub fn flow_key(&self) -> FlowKey {
        let [(src, src_port), (dst, dst_port)] = self.ends;
        let address = |address| Address::from(octets(address));
        FlowKey {
            src: address(src),
            dst: address(dst),
            src_port: src_port.unwrap_or_default(),
            dst_port: dst_port.unwrap_or_default(),
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
    let name = FlowName {
        protocol: key.protocol,
        ends: [(address(key.src), None), (address(key.dst), None)],
    };
    if !name.has_ports() {
        return name;
    }
    let [(src, _), (dst, _)] = name.ends;
    FlowName { ends: [(src, Some(key.src_port)), (dst, Some(key.dst_port))], ..name }
}

/// The name of the flow of a record.
pub fn of_record(record: &FlowRecord) -> FlowName {
    let address = |octets: [u8; 16]| IpAddr::from(octets).to_canonical();
    let [src, dst] = [record.src, record.dst].map(address);
    let name = FlowName { protocol: record.protocol, ends: [(src, None), (dst, None)] };
    if !name.has_ports() {
        return name;
    }
    FlowName { ends: [(src, Some(record.src_port)), (dst, Some(record.dst_port))], ..name }
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
        let Some([name, a, b]) = parts(text) else {
            return Err(format!("{text:?} is no flow: {FORM}"));
        };
        let protocol = filter::protocol(name)?;
        let ported = Self { protocol, ends: [(IpAddr::from([0; 4]), None); 2] }.has_ports();
        let end = |text: &str| if ported { end_with_port(text) } else { end_without_port(text) };
        let bad = |text: &str| {
            let what = if ported { "ADDRESS:PORT or ADDRESS" } else { "address without a port" };
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

/// Protocol and ends of either form.
fn parts(text: &str) -> Option<[&str; 3]> {
    if text.contains(',') {
        let parts: Vec<_> = text.split(',').map(str::trim).collect();
        return parts.try_into().ok();
    }
    let (name, ends) = text.trim().split_once(char::is_whitespace)?;
    let arrow = ["<->", "->", "<-"].into_iter().find_map(|arrow| ends.split_once(arrow));
    let (a, b) = arrow.or_else(|| ends.trim().split_once(char::is_whitespace))?;
    let (a, b) = (a.trim(), b.trim());
    (!a.is_empty() && !b.is_empty()).then_some([name, a, b])
}

fn end_with_port(text: &str) -> Option<(IpAddr, Option<u16>)> {
    match text.parse::<SocketAddr>() {
        Ok(end) => Some((end.ip().to_canonical(), Some(end.port()))),
        Err(_) => end_without_port(text),
    }
}

fn end_without_port(text: &str) -> Option<(IpAddr, Option<u16>)> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    Some((bare.parse::<IpAddr>().ok()?.to_canonical(), None))
}

impl Display for FlowName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.protocol {
            protocol::TCP => f.write_str("tcp")?,
            protocol::UDP => f.write_str("udp")?,
            protocol::ICMP => f.write_str("icmp")?,
            protocol::ICMPV6 => f.write_str("icmpv6")?,
            number => write!(f, "{number}")?,
        }
        for (address, port) in self.ends {
            if let Some(port) = port {
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
    fn what_people_write_is_understood() {
        let tcp = "tcp,10.0.0.1:443,10.0.0.2:5000";
        for (text, printed) in [
            ("tcp 10.0.0.1:443 -> 10.0.0.2:5000", tcp),
            ("tcp 10.0.0.1:443->10.0.0.2:5000", tcp),
            (" TCP  10.0.0.1:443 <->  10.0.0.2:5000 ", tcp),
            ("tcp 10.0.0.1:443 <- 10.0.0.2:5000", tcp),
            ("tcp 10.0.0.1:443 10.0.0.2:5000", tcp),
            ("udp [2001:db8::1]:53 <-> [2001:db8::2]", "udp,[2001:db8::1]:53,[2001:db8::2]"),
            ("udp 2001:db8::1 -> 2001:db8::2", "udp,[2001:db8::1],[2001:db8::2]"),
            ("icmp 10.0.0.1 -> 10.0.0.2", "icmp,10.0.0.1,10.0.0.2"),
            ("tcp,10.0.0.1,10.0.0.2:1", "tcp,10.0.0.1,10.0.0.2:1"),
        ] {
            let name: FlowName = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(name.to_string(), printed);
            assert_eq!(printed.parse(), Ok(name));
        }
        for text in ["tcp", "tcp 10.0.0.1:1", "tcp 10.0.0.1:1 ->", "-> 10.0.0.1:1", "tcp a -> b"] {
            assert!(text.parse::<FlowName>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_end_without_a_port_is_any_port() {
        let name: FlowName = "tcp 10.0.0.1:443 <-> 10.0.0.2".parse().expect("valid");
        assert!(name.is_pair());
        let key = FlowKey { dst_port: 7, ..name.flow_key() };
        let back = FlowKey { src: key.dst, dst: key.src, src_port: 7, dst_port: 443, ..key };
        assert!(name.matches(&key) && name.matches(&back));
        assert!(!name.matches(&FlowKey { src_port: 444, ..key }));
    }

    #[test]
    fn what_is_no_flow_is_refused_with_the_form() {
        for (text, words) in [
            ("", "\"\" is no flow: write PROTOCOL,END,END"),
            ("tcp,10.0.0.1:443", "write PROTOCOL,END,END"),
            ("tpc,10.0.0.1:443,10.0.0.2:1", "\"tpc\" is no protocol"),
            ("tcp,10.0.0.1:65536,10.0.0.2:1", "ADDRESS:PORT"),
            ("tcp,[2001:db8::1:443,[::1]:1", "ADDRESS:PORT"),
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
            let mut name = FlowName { protocol: number, ends: [(a, Some(ports.0)), (b, Some(ports.1))] };
            if !name.has_ports() {
                name.ends = [(a, None), (b, None)];
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
