//! What the networks of this host are: its addresses, the prefixes it is directly connected
//! to, and the MACs that its neighbour tables have.

use super::event::Address;
use super::interfaces::{InterfaceId, Interfaces};

/// A MAC.
pub type Mac = [u8; 6];

/// A MAC as people write it.
pub fn mac_text(mac: Mac) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// Addresses that begin alike, IPv4 mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    first: u128,
    mask: u128,
}

impl Prefix {
    /// The prefix of `bits` (of 128) that an address lies in.
    pub fn around(address: Address, bits: u8) -> Self {
        let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
        Self { first: u128::from_be_bytes(address) & mask, mask }
    }

    /// True for an address in it.
    pub fn contains(&self, address: Address) -> bool {
        u128::from_be_bytes(address) & self.mask == self.first
    }
}

/// An entry of a neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its address.
    pub address: Address,
    /// Its MAC.
    pub mac: Mac,
    /// When the kernel last knew that it is there, Unix ns; none for an entry made by hand.
    pub confirmed_ns: Option<u64>,
}

/// A metered interface as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    /// As records are told it is called.
    pub name: String,
    /// Its own MAC.
    pub mac: Option<Mac>,
    /// Its own addresses, with the bits (of 128) of the network that each is in.
    pub addresses: Vec<(Address, u8)>,
    /// Who it has heard of there.
    pub neighbours: Vec<Neighbour>,
}

/// The networks of all metered interfaces.
#[derive(Debug, Default)]
pub struct Network {
    /// Connected prefixes by interface.
    links: Vec<Vec<Prefix>>,
    local: Vec<Prefix>,
    own: Vec<Address>,
}

impl Network {
    /// Where only these prefixes are known to be of this network.
    pub fn new(local: Vec<Prefix>) -> Self {
        Self { links: Vec::new(), local, own: Vec::new() }
    }

    /// Takes the interfaces as they are now.
    pub fn set(&mut self, links: &[LinkState], interfaces: &mut Interfaces) {
        self.links.clear();
        self.own.clear();
        for link in links {
            let id = usize::from(interfaces.id(&link.name.as_str().into()));
            if self.links.len() <= id {
                self.links.resize_with(id + 1, Vec::new);
            }
            let connected = link.addresses.iter().filter(|(_, bits)| *bits < 128);
            let prefixes = connected.map(|(address, bits)| Prefix::around(*address, *bits));
            self.links[id] = prefixes.collect();
            self.own.extend(link.addresses.iter().map(|(address, _)| *address));
        }
        self.own.sort_unstable();
        self.own.dedup();
    }

    /// True if the address is in a network that the interface is directly connected to.
    pub fn is_connected(&self, interface: InterfaceId, address: Address) -> bool {
        let prefixes = self.links.get(usize::from(interface));
        prefixes.is_some_and(|prefixes| prefixes.iter().any(|prefix| prefix.contains(address)))
    }

    /// True for an address of this network: of this host, of a directly connected network, or
    /// of what the configuration calls local.
    pub fn is_local(&self, address: Address) -> bool {
        self.local.iter().any(|prefix| prefix.contains(address))
            || self.own.binary_search(&address).is_ok()
            || self.links.iter().flatten().any(|prefix| prefix.contains(address))
    }
}

/// True for an address of one host: neither multicast, broadcast to all, nor unspecified.
pub fn is_unicast(address: Address) -> bool {
    let ip = super::event::ip(address);
    let broadcast = matches!(ip, std::net::IpAddr::V4(ip) if ip.is_broadcast());
    !ip.is_multicast() && !ip.is_unspecified() && !broadcast
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analytics::event::mapped;

    #[test]
    fn an_address_is_connected_where_its_network_is() {
        let address = |text: &str| mapped(text.parse().expect("an address"));
        let mut interfaces = Interfaces::new();
        let mut network = Network::new(vec![Prefix::around(address("192.168.0.0"), 112)]);
        let link = LinkState {
            name: "eth0".into(),
            addresses: vec![(address("10.1.2.3"), 120), (address("2001:db8::1"), 64)],
            ..LinkState::default()
        };
        network.set(&[link], &mut interfaces);
        let eth0 = interfaces.id(&"eth0".into());
        assert!(network.is_connected(eth0, address("10.1.2.200")));
        assert!(network.is_connected(eth0, address("2001:db8::ffff")));
        assert!(!network.is_connected(eth0, address("10.1.3.1")));
        assert!(!network.is_connected(eth0 + 1, address("10.1.2.200")));
        assert!(network.is_local(address("192.168.7.7")));
        assert!(network.is_local(address("10.1.2.200")));
        assert!(!network.is_local(address("8.8.8.8")));
        for (text, unicast) in
            [("10.0.0.1", true), ("224.0.0.1", false), ("ff02::1", false), ("::", false)]
        {
            assert_eq!(is_unicast(address(text)), unicast, "{text}");
        }
        assert!(!is_unicast(address("255.255.255.255")));
    }
}
