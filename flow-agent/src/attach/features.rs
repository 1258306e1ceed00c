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
const ETHTOOL_MSG_CHANNELS_GET: u8 = 17;
/// Of both.
const ETHTOOL_A_HEADER: u16 = 1;
const ETHTOOL_A_CHANNELS_RX_MAX: u16 = 2;
const ETHTOOL_A_CHANNELS_COMBINED_MAX: u16 = 5;
const ETHTOOL_A_CHANNELS_RX_COUNT: u16 = 6;
const ETHTOOL_A_CHANNELS_COMBINED_COUNT: u16 = 9;
const ETHTOOL_A_FEATURES_ACTIVE: u16 = 4;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BITS_BIT: u16 = 1;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;

/// `include/uapi/linux/netdev.h`.
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;

const NLM_F_REQUEST: u16 = 1;
const NLA_F_NESTED: u16 = 1 << 15;
const NLMSG_ERROR: u16 = 2;
/// Of a netlink and a generic netlink message.
const HEADERS: usize = 20;

/// The features that take VLAN tags out of packets: 802.1Q, 802.1ad.
pub const VLAN_FEATURES: [&str; 2] = ["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"];

/// True if VLAN tags are taken out of the packets that an interface of this thread's
/// namespace receives, before they get to native XDP.
///
/// # Errors
/// What the kernel said: not every kernel has this interface.
pub fn strips_vlan_tags(ifindex: u32) -> io::Result<bool> {
    let active = active_features(ifindex)?;
    Ok(active.iter().any(|name| VLAN_FEATURES.contains(&name.as_str())))
}

/// The features that are switched on at an interface of this thread's namespace, as
/// `ethtool -k` has them in the kernel (`rx-gro`, `rx-lro`, `rx-vlan-hw-parse`, ...).
///
/// # Errors
/// As [`strips_vlan_tags`].
pub fn active_features(ifindex: u32) -> io::Result<Vec<String>> {
    let answer = ask_ethtool(ifindex, ETHTOOL_MSG_FEATURES_GET)?;
    let active = find(&answer, ETHTOOL_A_FEATURES_ACTIVE)
        .and_then(|set| find(set, ETHTOOL_A_BITSET_BITS))
        .unwrap_or_default();
    let bits = attributes(active).filter(|(kind, _)| *kind == ETHTOOL_A_BITSET_BITS_BIT);
    let name = |bit| {
        let name = find(bit, ETHTOOL_A_BITSET_BIT_NAME).unwrap_or_default();
        String::from_utf8_lossy(name.strip_suffix(b"\0").unwrap_or(name)).into_owned()
    };
    Ok(bits.map(|(_, bit)| name(bit)).collect())
}

/// Queues of a driver, by what they carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// Queues that receive.
    pub receive: u32,
    /// How many there may be.
    pub most_receive: u32,
}

/// The queues of an interface of this thread's namespace.
///
/// # Errors
/// What the kernel said: not every driver has any that can be told.
pub fn channels(ifindex: u32) -> io::Result<Channels> {
    let answer = ask_ethtool(ifindex, ETHTOOL_MSG_CHANNELS_GET)?;
    let of = |kinds: [u16; 2]| kinds.iter().filter_map(|kind| find_number(&answer, *kind)).sum();
    Ok(Channels {
        receive: of([ETHTOOL_A_CHANNELS_RX_COUNT, ETHTOOL_A_CHANNELS_COMBINED_COUNT]),
        most_receive: of([ETHTOOL_A_CHANNELS_RX_MAX, ETHTOOL_A_CHANNELS_COMBINED_MAX]),
    })
}

/// What the driver of an interface of this thread's namespace can do by XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpFeatures(u64);

impl XdpFeatures {
    /// `NETDEV_XDP_ACT_BASIC`: programs run in the driver.
    pub const fn is_native(self) -> bool {
        self.0 & 1 != 0
    }

    /// `NETDEV_XDP_ACT_RX_SG`: they get packets of several buffers.
    pub const fn takes_fragments(self) -> bool {
        self.0 & (1 << 5) != 0
    }
}

/// Asks for them, without attaching anything; Linux 6.3 and later answer.
///
/// # Errors
/// What the kernel said.
pub fn xdp_features(ifindex: u32) -> io::Result<XdpFeatures> {
    let (socket, family) = generic(b"netdev\0")?;
    let device = attribute(NETDEV_A_DEV_IFINDEX, &ifindex.to_ne_bytes());
    let answer = ask(&socket, family, NETDEV_CMD_DEV_GET, &device)?;
    find(&answer, NETDEV_A_DEV_XDP_FEATURES)
        .and_then(|value| Some(XdpFeatures(u64::from_ne_bytes(value.try_into().ok()?))))
        .ok_or_else(|| io::Error::other("the kernel does not say"))
}

fn ask_ethtool(ifindex: u32, command: u8) -> io::Result<Vec<u8>> {
    let (socket, family) = generic(b"ethtool\0")?;
    let device = attribute(ETHTOOL_A_HEADER_DEV_INDEX, &ifindex.to_ne_bytes());
    ask(&socket, family, command, &attribute(NLA_F_NESTED | ETHTOOL_A_HEADER, &device))
}

/// A connection to a family of generic netlink, and its number.
fn generic(name: &[u8]) -> io::Result<(Socket, u16)> {
    let mut socket = Socket::new(NETLINK_GENERIC)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let answer =
        ask(&socket, CONTROL, CTRL_CMD_GETFAMILY, &attribute(CTRL_ATTR_FAMILY_NAME, name))?;
    let family = find(&answer, CTRL_ATTR_FAMILY_ID)
        .and_then(|id| Some(u16::from_ne_bytes(id.try_into().ok()?)))
        .ok_or_else(|| io::Error::other("the netlink family has no number"))?;
    Ok((socket, family))
}

fn find_number(octets: &[u8], wanted: u16) -> Option<u32> {
    Some(u32::from_ne_bytes(find(octets, wanted)?.try_into().ok()?))
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
