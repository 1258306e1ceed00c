//! Route netlink: the interfaces of a namespace, and word that something has changed.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};
use rustix::io::Errno;

/// What the kernel says of an interface.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// The kernel's number for it in its namespace.
    pub ifindex: u32,
    /// `ARPHRD_*` (`include/uapi/linux/if_arp.h`).
    pub kind: u16,
    /// A device of its own, not made by the kernel.
    pub hardware: bool,
    /// Made of others.
    pub bond: bool,
}

/// The interfaces of this thread's namespace. Sysfs would not do: a thread that joined
/// another namespace still sees that of the old one.
///
/// # Errors
/// What the kernel said.
pub fn devices() -> io::Result<Vec<Device>> {
    const TRIES: usize = 10;
    for _ in 0..TRIES {
        if let Some(devices) = dump()? {
            return Ok(devices);
        }
    }
    Err(io::Error::other("they change faster than they can be listed"))
}

/// One listing; none if an interface came or went meanwhile.
fn dump() -> io::Result<Option<Vec<Device>>> {
    let mut devices = Vec::new();
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let whole = list(request, |message| {
        if let RouteNetlinkMessage::NewLink(link) = message {
            devices.extend(device(&link));
        }
    })?;
    Ok(whole.then_some(devices))
}

/// Everything that answers a request for a list; false if it changed meanwhile.
///
/// # Errors
/// What the kernel said.
pub fn list(
    request: RouteNetlinkMessage,
    mut each: impl FnMut(RouteNetlinkMessage),
) -> io::Result<bool> {
    let socket = connect()?;
    send(&socket, request, NLM_F_DUMP)?;
    let mut whole = true;
    loop {
        let (octets, _) = socket.recv_from_full()?;
        let mut rest = &octets[..];
        while !rest.is_empty() {
            let message = parse(rest)?;
            whole &= message.header.flags & NLM_F_DUMP_INTR == 0;
            let length = (message.header.length as usize).next_multiple_of(4).max(4);
            rest = rest.get(length..).unwrap_or_default();
            match message.payload {
                NetlinkPayload::InnerMessage(message) => each(message),
                NetlinkPayload::Done(_) => return Ok(whole),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {}
            }
        }
    }
}

fn device(link: &LinkMessage) -> Option<Device> {
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    let of_its_own =
        |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::ParentDevName(_));
    let is_bond = |attribute: &LinkAttribute| {
        let LinkAttribute::LinkInfo(infos) = attribute else { return false };
        infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Bond)))
    };
    Some(Device {
        name,
        ifindex: link.header.index,
        kind: u16::from(link.header.link_layer_type),
        hardware: link.attributes.iter().any(of_its_own),
        bond: link.attributes.iter().any(is_bond),
    })
}

/// Gives another namespace a number in this thread's one, if it has none: only then does
/// a [`Listener`] hear of its interfaces. The number goes with the namespace.
///
/// # Errors
/// What the kernel said.
pub fn number_namespace(namespace: BorrowedFd<'_>) -> io::Result<()> {
    const ANY: i32 = -1;
    let mut message = NsidMessage::default();
    message.attributes =
        vec![NsidAttribute::Fd(namespace.as_raw_fd() as u32), NsidAttribute::Id(ANY)];
    match tell(RouteNetlinkMessage::NewNsId(message)) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::EXIST) => Ok(()),
        told => told,
    }
}

/// Has the kernel do something, in this thread's namespace.
///
/// # Errors
/// What the kernel said.
pub fn tell(message: RouteNetlinkMessage) -> io::Result<()> {
    let socket = connect()?;
    send(&socket, message, NLM_F_ACK)?;
    let (octets, _) = socket.recv_from_full()?;
    match parse(&octets)?.payload {
        NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
        _ => Ok(()),
    }
}

/// Hears that interfaces have come, gone or changed, in this namespace and in those
/// that have a number in it. It keeps none of them alive.
pub struct Listener {
    socket: Socket,
}

impl Listener {
    /// Begins to listen, in this thread's namespace.
    ///
    /// # Errors
    /// The kernel refuses the socket.
    pub fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        socket.add_membership(MulticastGroup::Link as u32)?;
        socket.add_membership(MulticastGroup::Nsid as u32)?;
        if let Err(error) = socket.set_listen_all_namespaces(true) {
            tracing::warn!(
                "the interfaces of other network namespaces are looked for only every few \
                 seconds: {error}; give the process CAP_NET_BROADCAST"
            );
        }
        Ok(Self { socket })
    }

    /// Forgets what it has heard: a listing shows it. Messages that the kernel had to
    /// drop are no loss either.
    pub fn clear(&self) {
        let mut octets = Vec::with_capacity(1 << 16);
        loop {
            octets.clear();
            match self.socket.recv(&mut octets, 0) {
                Ok(_) => {}
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => {}
                Err(_) => return,
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn connect() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

fn send(socket: &Socket, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | flags;
    message.finalize();
    let mut octets = vec![0; message.buffer_len()];
    message.serialize(&mut octets);
    socket.send(&octets, 0)?;
    Ok(())
}

fn parse(octets: &[u8]) -> io::Result<NetlinkMessage<RouteNetlinkMessage>> {
    NetlinkMessage::deserialize(octets).map_err(io::Error::other)
}
