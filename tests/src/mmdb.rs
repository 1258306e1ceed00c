//! Writes small databases in MaxMind's format (<https://maxmind.github.io/MaxMind-DB/>), for tests.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// A database to be written.
pub struct Mmdb {
    kind: &'static str,
    ip_version: u16,
    /// Networks (as in an IPv6 tree, IPv4 below `::/96`) with their data, encoded.
    networks: BTreeMap<(u128, u8), Vec<u8>>,
}

/// A database of countries.
pub fn country_database(networks: &[(&str, &str)]) -> Vec<u8> {
    networks
        .iter()
        .fold(Mmdb::new("GeoLite2-Country", 6), |database, (network, code)| {
            let (address, length) = network.split_once('/').expect("a network");
            database.country(
                address.parse().expect("an address"),
                length.parse().expect("a length"),
                code,
            )
        })
        .build()
}

/// A database of autonomous systems.
pub fn asn_database(networks: &[(&str, u32)]) -> Vec<u8> {
    networks
        .iter()
        .fold(Mmdb::new("GeoLite2-ASN", 6), |database, (network, asn)| {
            let (address, length) = network.split_once('/').expect("a network");
            database.asn(
                address.parse().expect("an address"),
                length.parse().expect("a length"),
                *asn,
            )
        })
        .build()
}

impl Mmdb {
    /// An empty one of this type, for IP version 4 or 6.
    pub fn new(kind: &'static str, ip_version: u16) -> Self {
        Self { kind, ip_version, networks: BTreeMap::new() }
    }

    /// The same, and a network of a country.
    #[must_use]
    pub fn country(self, address: IpAddr, length: u8, code: &str) -> Self {
        self.network(address, length, map(&[("country", map(&[("iso_code", text(code))]))]))
    }

    /// The same, and a network of an autonomous system.
    #[must_use]
    pub fn asn(self, address: IpAddr, length: u8, asn: u32) -> Self {
        self.network(address, length, map(&[("autonomous_system_number", uint32(asn))]))
    }

    fn network(mut self, address: IpAddr, length: u8, data: Vec<u8>) -> Self {
        let place = match (address, self.ip_version) {
            (IpAddr::V4(v4), 6) => (u128::from(v4.to_bits()), length + 96),
            (IpAddr::V4(v4), _) => (u128::from(v4.to_bits()) << 96, length),
            (IpAddr::V6(v6), _) => (Ipv6Addr::to_bits(v6), length),
        };
        self.networks.insert(place, data);
        self
    }

    /// The file.
    pub fn build(&self) -> Vec<u8> {
        /// Where a bit of an address leads.
        #[derive(Clone, Copy)]
        enum To {
            Nothing,
            Node(usize),
            Data(usize),
        }
        let mut data: Vec<u8> = Vec::new();
        let mut nodes = vec![[To::Nothing; 2]];
        // The shorter networks first: the longer ones go on from them.
        let mut networks: Vec<_> = self.networks.iter().collect();
        networks.sort_by_key(|((_, length), _)| *length);
        for ((address, length), value) in networks {
            let offset = data.len();
            data.extend(value);
            let bit = |depth: u8| (address >> (127 - depth) & 1) as usize;
            let mut node = 0;
            for depth in 0..length - 1 {
                node = match nodes[node][bit(depth)] {
                    To::Node(next) => next,
                    other => {
                        nodes.push([other; 2]);
                        let next = nodes.len() - 1;
                        nodes[node][bit(depth)] = To::Node(next);
                        next
                    }
                };
            }
            nodes[node][bit(length - 1)] = To::Data(offset);
        }
        let count = nodes.len();
        let record = |to: To| match to {
            To::Nothing => count as u32,
            To::Node(node) => node as u32,
            To::Data(offset) => (count + 16 + offset) as u32,
        };
        let mut file = Vec::new();
        for [left, right] in nodes {
            file.extend(record(left).to_be_bytes());
            file.extend(record(right).to_be_bytes());
        }
        file.extend([0; 16]);
        file.extend(data);
        file.extend(b"\xab\xcd\xefMaxMind.com");
        file.extend(map(&[
            ("binary_format_major_version", uint16(2)),
            ("binary_format_minor_version", uint16(0)),
            ("build_epoch", field(9, &1_700_000_000u64.to_be_bytes())),
            ("database_type", text(self.kind)),
            ("description", map(&[("en", text("a test"))])),
            ("ip_version", uint16(self.ip_version)),
            ("languages", field_of_items(11, &[text("en")])),
            ("node_count", uint32(count as u32)),
            ("record_size", uint16(32)),
        ]));
        file
    }
}

/// A value of a type, in octets.
fn field(kind: u8, octets: &[u8]) -> Vec<u8> {
    let mut field = control(kind, octets.len());
    field.extend(octets);
    field
}

fn field_of_items(kind: u8, items: &[Vec<u8>]) -> Vec<u8> {
    let mut field = control(kind, items.len());
    field.extend(items.concat());
    field
}

/// The octets that say the type and the length, which is small here.
fn control(kind: u8, length: usize) -> Vec<u8> {
    assert!(length < 29 + 256, "longer fields have another form");
    let (small, rest) =
        if length < 29 { (length as u8, None) } else { (29, Some((length - 29) as u8)) };
    let mut octets = if kind < 8 { vec![kind << 5 | small] } else { vec![small, kind - 7] };
    octets.extend(rest);
    octets
}

fn map(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut field = control(7, items.len());
    for (key, value) in items {
        field.extend(text(key));
        field.extend(value);
    }
    field
}

fn text(text: &str) -> Vec<u8> {
    field(2, text.as_bytes())
}

fn uint16(number: u16) -> Vec<u8> {
    field(5, &number.to_be_bytes())
}

fn uint32(number: u32) -> Vec<u8> {
    field(6, &number.to_be_bytes())
}
