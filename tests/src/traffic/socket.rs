//! Sockets with a chosen source address, made inside a namespace.

use std::ffi::c_int;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::net::sockopt::Timeout;
use rustix::net::{
    AddressFamily, Protocol, SocketFlags, SocketType, bind, connect, socket_with, sockopt,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::lab::Namespace;

/// A test that waits longer than this for a packet has failed.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Room for datagrams that their reader has not taken yet.
const UDP_BUFFER: usize = 16 << 20;

/// A listening TCP socket.
pub fn listen(namespace: &Namespace, address: SocketAddr) -> Result<TcpListener> {
    namespace.enter(|| {
        let listener =
            TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        sockopt::set_socket_timeout(&listener, Timeout::Recv, Some(PATIENCE))?;
        Ok(listener)
    })
}

/// Lets this process have so many sockets open, and some files beside them.
pub fn allow(sockets: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let needed = sockets + 1_000;
    if limit.current.is_some_and(|current| current < needed) {
        let maximum = limit.maximum.map(|maximum| maximum.max(needed));
        setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum })
            .with_context(|| format!("cannot open {needed} files: raise `ulimit -n`"))?;
    }
    Ok(())
}

/// A TCP connection from one address to another, paced if a rate (octets a second) is given.
///
/// Call it inside the namespace of `from`.
pub fn connect_tcp(from: IpAddr, to: SocketAddr, pace: Option<u64>) -> Result<TcpStream> {
    let stream = (|| {
        let fd = socket_with(family(to.ip()), SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        if let Some(rate) = pace {
            set_pacing(&fd, rate)?;
        }
        bind(&fd, &SocketAddr::new(from, 0))?;
        connect(&fd, &to)?;
        let stream = TcpStream::from(fd);
        patient_tcp(&stream)?;
        io::Result::Ok(stream)
    })();
    stream.with_context(|| format!("cannot connect from {from} to {to}"))
}

/// A UDP socket bound in a namespace.
pub fn udp(namespace: &Namespace, address: SocketAddr) -> Result<UdpSocket> {
    namespace.enter(|| {
        let socket =
            UdpSocket::bind(address).with_context(|| format!("cannot bind UDP {address}"))?;
        sockopt::set_socket_recv_buffer_size_force(&socket, UDP_BUFFER)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    })
}

/// A ping socket: the kernel fills in the identifier and the checksum.
pub fn ping(namespace: &Namespace, from: IpAddr) -> Result<UdpSocket> {
    namespace.enter(|| {
        let protocol =
            if from.is_ipv4() { rustix::net::ipproto::ICMP } else { rustix::net::ipproto::ICMPV6 };
        let fd = socket(from, SocketType::DGRAM, protocol).context("cannot make a ping socket")?;
        bind(&fd, &SocketAddr::new(from, 0)).with_context(|| format!("cannot ping from {from}"))?;
        // Not UDP, but the same calls: datagrams to and from addresses.
        let socket = UdpSocket::from(fd);
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    })
}

/// No read or write of this connection waits forever.
pub fn patient_tcp(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

fn socket(
    address: IpAddr,
    kind: SocketType,
    protocol: Protocol,
) -> io::Result<std::os::fd::OwnedFd> {
    Ok(socket_with(family(address), kind, SocketFlags::CLOEXEC, Some(protocol))?)
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

/// Limits what the kernel sends on a socket, in octets a second.
fn set_pacing(fd: &impl AsFd, rate: u64) -> io::Result<()> {
    // SAFETY: the value is a u64 that lives through the call, with its size.
    let result: c_int = unsafe {
        libc::setsockopt(
            fd.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MAX_PACING_RATE,
            (&raw const rate).cast(),
            size_of::<u64>() as u32,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
