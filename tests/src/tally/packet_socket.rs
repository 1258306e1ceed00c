//! A packet socket that gives each frame's headers, its direction, and what the
//! kernel knows about segmentation. The only unsafe code of this crate, with
//! [`crate::traffic::socket`].

use std::ffi::c_int;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::net::SendFlags;
use rustix::net::netdevice::name_to_index;
use rustix::net::sockopt::{self, Timeout};

/// Memory for packets that were not read yet: enough for bursts of super-packets.
const BUFFER: usize = 512 << 20;
/// `struct virtio_net_hdr`, which stands before each frame.
const VNET_HEADER: usize = 10;
const TICK: Duration = Duration::from_millis(20);

/// A frame as the socket gave it.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// The start of the frame, from the Ethernet header on.
    pub bytes: &'a [u8],
    /// It left through the interface; otherwise it came in.
    pub outgoing: bool,
    /// Payload octets of each segment if this is a super-packet, else 0.
    pub gso_size: u16,
}

/// Sees every frame of one interface.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl PacketSocket {
    /// Opens it on an interface of the calling thread's network namespace. Reading
    /// gives up after a short while if nothing comes.
    pub fn open(interface: &str) -> io::Result<Self> {
        // Protocol 0: it receives nothing until it is bound to its interface.
        // SAFETY: socket() has no memory arguments.
        let raw = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        check(raw)?;
        // SAFETY: the descriptor was just made and nothing else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let on: c_int = 1;
        // SAFETY: the value is one c_int that lives through the call, with its size.
        check(unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_VNET_HDR,
                (&raw const on).cast(),
                size_of::<c_int>() as u32,
            )
        })?;
        sockopt::set_socket_recv_buffer_size_force(&fd, BUFFER)?;
        sockopt::set_socket_timeout(&fd, Timeout::Recv, Some(TICK))?;
        // SAFETY: all zeros is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = name_to_index(&fd, interface)?.cast_signed();
        // SAFETY: the address is a sockaddr_ll that lives through the call, with its size.
        check(unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        })?;
        Ok(Self { fd, buffer: vec![0; VNET_HEADER + 256] })
    }

    /// The next frame, or nothing if none came for a short while.
    pub fn receive(&mut self) -> io::Result<Option<Frame<'_>>> {
        // SAFETY: all zeros is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        let mut address_length = size_of::<libc::sockaddr_ll>() as u32;
        // SAFETY: the buffer and the address live through the call and their lengths are
        // theirs; the kernel writes no more than these.
        let length = unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                self.buffer.as_mut_ptr().cast(),
                self.buffer.len(),
                0,
                (&raw mut address).cast(),
                &raw mut address_length,
            )
        };
        if length < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        }
        let received = &self.buffer[..length.cast_unsigned()];
        let Some((header, bytes)) = received.split_at_checked(VNET_HEADER) else {
            return Err(io::Error::other("a frame without its virtio header"));
        };
        // flags u8, gso_type u8, hdr_len u16, gso_size u16, ...; in this machine's order.
        let gso_size = match header[1] {
            0 => 0,
            _ => u16::from_ne_bytes([header[4], header[5]]),
        };
        let outgoing = address.sll_pkttype == libc::PACKET_OUTGOING;
        Ok(Some(Frame { bytes, outgoing, gso_size }))
    }

    /// Sends a whole frame, Ethernet header and all.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // An empty virtio header: nothing to segment, nothing to checksum.
        let framed = [&[0; VNET_HEADER], frame].concat();
        rustix::net::send(&self.fd, &framed, SendFlags::empty())?;
        Ok(())
    }

    /// The same with only the first `linear` octets where programs can read them at once; the
    /// kernel does that with frames of more than a page.
    pub fn send_split(&self, frame: &[u8], linear: u16) -> io::Result<()> {
        let mut header = [0; VNET_HEADER];
        header[2..4].copy_from_slice(&linear.to_ne_bytes());
        rustix::net::send(&self.fd, &[&header, frame].concat(), SendFlags::empty())?;
        Ok(())
    }

    /// Frames that found no room since the last call.
    pub fn drops(&self) -> io::Result<u32> {
        let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = size_of::<libc::tpacket_stats>() as u32;
        // SAFETY: the value is a tpacket_stats that lives through the call, with its size.
        check(unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut length,
            )
        })?;
        Ok(statistics.tp_drops)
    }
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
