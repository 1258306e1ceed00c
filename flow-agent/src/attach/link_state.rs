//! What the kernel knows of the networks of metered interfaces: addresses, MACs, neighbours.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};

use super::{AttachError, Interface, NetworkNamespace, netlink};
use crate::analytics::{LinkState, Mac, Neighbour, mapped};

/// Entries of one interface's neighbour table that are read.
const MOST_NEIGHBOURS: usize = 16_384;
/// The kernel tells times in hundredths of a second (`USER_HZ`).
const CLOCK_TICK_NS: u64 = 10_000_000;

/// Of each interface that can be looked at; and why others cannot.
pub fn link_states(found: &[Interface], now_ns: u64) -> (Vec<LinkState>, Vec<String>) {
    let mut namespaces: BTreeMap<&NetworkNamespace, Vec<&Interface>> = BTreeMap::new();
    for interface in found.iter().filter(|interface| !interface.loopback) {
        namespaces.entry(&interface.namespace).or_default().push(interface);
    }
    let (mut states, mut errors) = (Vec::new(), Vec::new());
    for (namespace, interfaces) in namespaces {
        let look = || {
            look(&interfaces, now_ns).map_err(|source| AttachError::Io {
                what: format!("the neighbours in network namespace '{}'", namespace.name()),
                source,
            })
        };
        match namespace.run(look) {
            Ok(found) => states.extend(found),
            Err(error) => errors.push(error.to_string()),
        }
    }
    (states, errors)
}

/// Inside the namespace.
fn look(interfaces: &[&Interface], now_ns: u64) -> io::Result<Vec<LinkState>> {
    let by_index = interfaces.iter().map(|interface| {
        let name = interface.to_string();
        (interface.place.ifindex, LinkState { name, ..LinkState::default() })
    });
    let mut states: BTreeMap<u32, LinkState> = by_index.collect();
    // A table that changes while it is listed is listed again next time.
    netlink::list(RouteNetlinkMessage::GetLink(LinkMessage::default()), |message| {
        if let RouteNetlinkMessage::NewLink(link) = message
            && let Some(state) = states.get_mut(&link.header.index)
        {
            state.mac = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::Address(octets) => mac(octets),
                _ => None,
            });
        }
    })?;
    netlink::list(RouteNetlinkMessage::GetAddress(AddressMessage::default()), |message| {
        if let RouteNetlinkMessage::NewAddress(address) = message
            && let Some(state) = states.get_mut(&address.header.index)
        {
            state.addresses.extend(own(&address));
        }
    })?;
    netlink::list(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()), |message| {
        if let RouteNetlinkMessage::NewNeighbour(entry) = message
            && let Some(state) = states.get_mut(&entry.header.ifindex)
            && state.neighbours.len() < MOST_NEIGHBOURS
        {
            state.neighbours.extend(neighbour(&entry, now_ns));
        }
    })?;
    Ok(states.into_values().collect())
}

/// An address of this host and the bits of its network.
fn own(message: &AddressMessage) -> Option<([u8; 16], u8)> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| {
        message.attributes.iter().find_map(wanted)
    };
    // At one end of a tunnel, "address" is the other end.
    let address = find(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    })
    .or_else(|| {
        find(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })?;
    let before = if address.is_ipv4() { 96 } else { 0 };
    Some((mapped(address), before + message.header.prefix_len))
}

fn neighbour(message: &NeighbourMessage, now_ns: u64) -> Option<Neighbour> {
    let permanent = match message.header.state {
        NeighbourState::Permanent => true,
        NeighbourState::Reachable
        | NeighbourState::Stale
        | NeighbourState::Delay
        | NeighbourState::Probe => false,
        _ => return None,
    };
    let (mut address, mut found, mut confirmed_ns) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => {
                address = Some(mapped((*ip).into()));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => {
                address = Some(mapped((*ip).into()));
            }
            NeighbourAttribute::LinkLayerAddress(octets) => found = mac(octets),
            NeighbourAttribute::CacheInfo(info) if !permanent => {
                let ago = u64::from(info.confirmed) * CLOCK_TICK_NS;
                confirmed_ns = Some(now_ns.saturating_sub(ago));
            }
            _ => {}
        }
    }
    Some(Neighbour { address: address?, mac: found?, confirmed_ns })
}

/// A MAC of one device.
fn mac(octets: &[u8]) -> Option<Mac> {
    let mac = Mac::try_from(octets).ok()?;
    let group = mac[0] & 1 != 0;
    (mac != Mac::default() && !group).then_some(mac)
}
