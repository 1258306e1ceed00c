//! One interface to meter.

use std::fmt;

use super::namespace::NamespaceId;
use super::netlink::Device;
use super::{AttachMode, NetworkNamespace};

/// One interface to meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its namespace, as it was asked for.
    pub namespace: NetworkNamespace,
    /// Where it is.
    pub place: Place,
    /// Its name there.
    pub name: String,
    /// How its incoming packets are metered, as it was asked for.
    pub mode: AttachMode,
    /// A device of its own, not made by the kernel.
    pub hardware: bool,
    /// Made of others, its members, at which its XDP programs run.
    pub bond: bool,
    /// Packets begin with the IP header.
    pub raw_ip: bool,
    /// `lo`: each packet is metered once, on ingress.
    pub loopback: bool,
    /// It was asked for by its name, so it must be metered.
    pub exact: bool,
}

/// What tells interfaces apart while they exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The namespace.
    pub namespace: NamespaceId,
    /// The kernel's number for the interface there.
    pub ifindex: u32,
}

/// As a part of a file name.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.namespace, self.ifindex)
    }
}

impl Interface {
    /// A device of a namespace.
    pub(super) fn new(
        namespace: &NetworkNamespace,
        id: NamespaceId,
        device: &Device,
        mode: AttachMode,
        exact: bool,
    ) -> Self {
        const ARPHRD_ETHER: u16 = 1;
        const ARPHRD_LOOPBACK: u16 = 772;
        Self {
            namespace: namespace.clone(),
            place: Place { namespace: id, ifindex: device.ifindex },
            name: device.name.clone(),
            mode,
            hardware: device.hardware,
            bond: device.bond,
            raw_ip: device.kind != ARPHRD_ETHER && device.kind != ARPHRD_LOOPBACK,
            loopback: device.kind == ARPHRD_LOOPBACK,
            exact,
        }
    }
}

/// `[NETNS/]NAME`: the name in the rows.
impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.namespace, self.name)
    }
}
