//! Real traffic between the two sides of a lab: real sockets, the kernel's own stack.
//!
//! Each piece sends a fixed amount and returns when both sides have seen all of it
//! and every connection is closed.

use std::net::{IpAddr, SocketAddr};

use crate::lab::Side;

mod clients;
mod icmp;
mod mixed;
mod pace;
mod socket;
mod tcp;
mod udp;

pub use clients::clients;
pub use icmp::ping;
pub use mixed::mixed;
pub use socket::{connect_tcp, listen};
pub use tcp::{bulk, short, together};
pub use udp::{ask, ask_together, flood, spread, stream};

/// The two ends of a conversation.
#[derive(Debug, Clone, Copy)]
pub struct Ends<'a> {
    /// The side that begins.
    pub client: &'a Side,
    /// The client's address.
    pub from: IpAddr,
    /// The side that answers.
    pub server: &'a Side,
    /// The server's address and port (0 for ICMP).
    pub to: SocketAddr,
}

impl<'a> Ends<'a> {
    /// Over IPv4, from one of the client side's hosts to one of the server side's.
    pub fn v4(client: (&'a Side, u8), server: (&'a Side, u8), port: u16) -> Self {
        Self {
            client: client.0,
            from: client.0.v4(client.1),
            server: server.0,
            to: SocketAddr::new(server.0.v4(server.1), port),
        }
    }

    /// Over IPv6, likewise.
    pub fn v6(client: (&'a Side, u8), server: (&'a Side, u8), port: u16) -> Self {
        Self {
            client: client.0,
            from: client.0.v6(client.1),
            server: server.0,
            to: SocketAddr::new(server.0.v6(server.1), port),
        }
    }
}

/// What the sockets of a conversation sent and received: payload octets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Connections, or sockets that exchanged datagrams.
    pub conversations: u64,
    /// From client to server.
    pub forward: u64,
    /// From server to client.
    pub backward: u64,
}

impl Sent {
    /// Adds another conversation's octets to these.
    pub fn add(&mut self, other: Self) {
        self.conversations += other.conversations;
        self.forward += other.forward;
        self.backward += other.backward;
    }
}
