//! Further veth pairs between the two namespaces of a lab, made while a test runs.
//! Nothing speaks on them but what [`Pair::send`] sends.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::lab::Namespace;
use crate::tally::Count;

/// IP octets of each datagram that is sent: a header of 20, one of 8, and the payload.
const OCTETS: u64 = 20 + 8 + PAYLOAD as u64;
const PAYLOAD: usize = 100;

/// One end of a pair.
#[derive(Clone, Copy)]
pub struct End<'a> {
    /// Where it is.
    pub namespace: &'a Namespace,
    /// Its name there.
    pub name: &'a str,
    /// Its ifindex there; 0 leaves it to the kernel.
    pub index: u32,
}

impl<'a> End<'a> {
    /// An end whose ifindex does not matter.
    pub fn new(namespace: &'a Namespace, name: &'a str) -> Self {
        Self { namespace, name, index: 0 }
    }
}

/// A pair: datagrams go from one end to the other.
pub struct Pair<'a> {
    from: &'a Namespace,
    to: &'a Namespace,
    number: u16,
}

impl<'a> Pair<'a> {
    /// Makes one; pairs that exist at the same time have different numbers.
    pub fn new(number: u16, from: End<'a>, to: End<'a>) -> Result<Self> {
        let pair = Self { from: from.namespace, to: to.namespace, number };
        for end in [from, to] {
            // IPv6 would report its memberships.
            end.namespace.enter(|| {
                std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")
                    .context("cannot switch IPv6 off")
            })?;
        }
        let index = |end: End| match end.index {
            0 => String::new(),
            index => format!("index {index}"),
        };
        from.namespace.ip(&format!(
            "link add {} {} type veth peer name {} {} netns {}\n",
            from.name,
            index(from),
            to.name,
            index(to),
            to.namespace.name()
        ))?;
        pair.configure(from, 1, 2)?;
        pair.configure(to, 2, 1)?;
        Ok(pair)
    }

    /// Takes the link down and up at one end, whose neighbour it then knows again.
    pub fn flap(&self, namespace: &Namespace, name: &str) -> Result<()> {
        let other = if namespace.name() == self.from.name() { 2 } else { 1 };
        namespace.ip(&format!(
            "link set {name} down\nlink set {name} up\n{}",
            self.neighbour(other, name)
        ))
    }

    fn configure(&self, end: End, own: u8, other: u8) -> Result<()> {
        let name = end.name;
        end.namespace.ip(&format!(
            "link set {name} address {}\naddr add {}/24 dev {name}\nlink set {name} up\n{}",
            self.mac(own),
            self.address(own),
            self.neighbour(other, name),
        ))
    }

    /// What makes the other end known at this one, without a question on the wire.
    fn neighbour(&self, other: u8, name: &str) -> String {
        let (address, mac) = (self.address(other), self.mac(other));
        format!("neigh replace {address} lladdr {mac} nud permanent dev {name}\n")
    }

    fn mac(&self, host: u8) -> String {
        let [high, low] = self.number.to_be_bytes();
        format!("02:00:01:{high:02x}:{low:02x}:{host:02x}")
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        let [high, low] = self.number.to_be_bytes();
        Ipv4Addr::new(10, 99 + high, low, host)
    }

    /// Sends datagrams, one after the other, each received; what was on the wire.
    pub fn send(&self, datagrams: u64) -> Result<Count> {
        const WAIT: Duration = Duration::from_secs(5);
        // Any port: one that was just closed may be held by a process that is being started.
        let socket = |namespace: &Namespace, host: u8| {
            namespace.enter(|| {
                let socket = UdpSocket::bind(SocketAddr::from((self.address(host), 0)))?;
                socket.set_read_timeout(Some(WAIT))?;
                Ok(socket)
            })
        };
        let (sender, receiver) = (socket(self.from, 1)?, socket(self.to, 2)?);
        let mut buffer = [0; 2 * PAYLOAD];
        for _ in 0..datagrams {
            sender.send_to(&[0x55; PAYLOAD], receiver.local_addr()?)?;
            let length = receiver.recv(&mut buffer).context("a datagram did not come")?;
            ensure!(length == PAYLOAD, "a datagram has {length} octets");
        }
        Ok(Count { packets: datagrams, octets: datagrams * OCTETS })
    }
}
