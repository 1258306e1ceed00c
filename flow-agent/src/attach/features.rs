//! What a driver does with packets before it hands them on, by the kernel's ethtool netlink
//! (`include/uapi/linux/ethtool_netlink.h`).

use std::io;

use rtnetlink::sys::protocols::NETLINK_GENERIC;
use rtnetlink::sys::{Socket, SocketAddr};

/// `GENL_ID_CTRL`, which knows the numbers of the other families.
const CONTROL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

const ETHTOOL_MSG_FEATURES_GET: u8 = 11;
const ETHTOOL_A_FEATURES_HEADER: u16 = 1;
const ETHTOOL_A_FEATURES_ACTIVE: u16 = 4;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BITS_BIT: u16 = 1;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;

const NLM_F_REQUEST: u16 = 1;
const NLA_F_NESTED: u16 = 1 << 15;
const NLMSG_ERROR: u16 = 2;
/// Of a netlink and a generic netlink message.
const HEADERS: usize = 20;

/// The features that take VLAN tags out of packets: 802.1Q, 802.1ad.
const VLAN_FEATURES: [&[u8]; 2] = [b"rx-vlan-hw-parse", b"rx-vlan-stag-hw-parse"];

/// True if VLAN tags are taken out of the packets that an interface of this thread's
/// namespace receives, before they get to native XDP.
///
/// # Errors
/// What the kernel said: not every kernel has this interface.
pub fn strips_vlan_tags(ifindex: u32) -> io::Result<bool> {
    let mut socket = Socket::new(NETLINK_GENERIC)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let name = attribute(CTRL_ATTR_FAMILY_NAME, b"ethtool\0");
    let family = ask(&socket, CONTROL, CTRL_CMD_GETFAMILY, &name)?;
    let family = find(&family, CTRL_ATTR_FAMILY_ID)
        .and_then(|id| Some(u16::from_ne_bytes(id.try_into().ok()?)))
        .ok_or_else(|| io::Error::other("ethtool netlink has no number"))?;
    let device = attribute(ETHTOOL_A_HEADER_DEV_INDEX, &ifindex.to_ne_bytes());
    let header = attribute(NLA_F_NESTED | ETHTOOL_A_FEATURES_HEADER, &device);
    let features = ask(&socket, family, ETHTOOL_MSG_FEATURES_GET, &header)?;
    let active = find(&features, ETHTOOL_A_FEATURES_ACTIVE)
        .and_then(|set| find(set, ETHTOOL_A_BITSET_BITS))
        .unwrap_or_default();
    let mut bits = attributes(active).filter(|(kind, _)| *kind == ETHTOOL_A_BITSET_BITS_BIT);
    Ok(bits.any(|(_, bit)| {
        let name = find(bit, ETHTOOL_A_BITSET_BIT_NAME).unwrap_or_default();
        VLAN_FEATURES.contains(&name.strip_suffix(b"\0").unwrap_or(name))
    }))
}

/// The attributes of the answer.
fn ask(socket: &Socket, family: u16, command: u8, attributes: &[u8]) -> io::Result<Vec<u8>> {
    let mut message = Vec::with_capacity(HEADERS + attributes.len());
    message.extend(((HEADERS + attributes.len()) as u32).to_ne_bytes());
    message.extend(family.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]); // sequence and port: there is one answer
    message.extend([command, 1, 0, 0]); // with version
    message.extend(attributes);
    socket.send(&message, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let (Some(header), Some(rest)) = (answer.get(..HEADERS), answer.get(HEADERS..)) else {
        return Err(io::Error::other("the kernel's answer is cut"));
    };
    if header[4..6] == NLMSG_ERROR.to_ne_bytes() {
        let code = i32::from_ne_bytes([header[16], header[17], header[18], header[19]]);
        return Err(io::Error::from_raw_os_error(-code));
    }
    Ok(rest.to_vec())
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut octets = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    octets.extend(kind.to_ne_bytes());
    octets.extend(value);
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets
}

/// Kinds and values.
fn attributes(mut octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    /// Without the flags for nesting and byte order.
    const KIND: u16 = 0x3fff;
    std::iter::from_fn(move || {
        let header = octets.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & KIND;
        let value = octets.get(4..length)?;
        octets = octets.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn find(octets: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(octets).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_in_what_is_whole() {
        let inner =
            [attribute(1, b"abc"), attribute(NLA_F_NESTED | 2, &attribute(7, b"x"))].concat();
        assert_eq!(find(&inner, 1), Some(&b"abc"[..]));
        assert_eq!(find(&inner, 2).and_then(|value| find(value, 7)), Some(&b"x"[..]));
        assert_eq!(find(&inner, 3), None);
        assert_eq!(attributes(&inner[..9]).count(), 1, "the rest is cut");
    }
}
