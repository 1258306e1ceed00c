//! Two network namespaces joined by one veth pair, in which nothing speaks unless told to.
//!
//! What must hold: every packet on the wire is one that the test sent (or its kernel
//! answered), so that counts can be compared exactly. Neighbours are static, IPv6
//! has no link-local addresses, and [`Lab::new`] returns when the wire is quiet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::net::netdevice::name_to_index;

mod namespace;

pub use namespace::Namespace;

use crate::tally;

/// Addresses of each family that a side has: traffic from several hosts.
pub const HOSTS: u8 = 4;
/// The addresses of both sides, as a list for ClickHouse's `isIPAddressInRange`.
pub const SUBNETS: [&str; 2] = ["::ffff:10.77.0.0/112", "fd00:77::/64"];

const QUIET: Duration = Duration::from_millis(150);

/// One end of the wire.
#[derive(Debug)]
pub struct Side {
    /// The namespace it is in.
    pub namespace: Namespace,
    /// The name of its interface.
    pub interface: &'static str,
    number: u8,
}

impl Side {
    /// The IPv4 address of one of its hosts.
    pub fn v4(&self, host: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 77, self.number, 1 + host % HOSTS))
    }

    /// The IPv6 address of one of its hosts.
    pub fn v6(&self, host: u8) -> IpAddr {
        let last = u16::from(self.number) << 8 | u16::from(1 + host % HOSTS);
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, last))
    }

    /// How the agent is told to meter this end: `NETNS/IF:ATTACH`.
    pub fn spec(&self, attach: &str) -> String {
        format!("{}/{}:{attach}", self.namespace.name(), self.interface)
    }

    /// Packets that its interface has received, and their octets behind the Ethernet headers, as
    /// its driver counts them.
    pub fn received(&self) -> Result<(u64, u64)> {
        let list = || Ok(std::fs::read_to_string("/proc/thread-self/net/dev")?);
        let list = self.namespace.enter(list)?;
        let line = list.lines().find_map(|line| line.trim().strip_prefix(self.interface));
        let line = line.context("the interface is not listed")?.trim_start_matches(':');
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let mut next = || numbers.next().context("a counter is missing");
        let (octets, packets) = (next()??, next()??);
        Ok((packets, octets - 14 * packets))
    }

    /// The kernel's number of its interface, in its namespace.
    pub fn index(&self) -> Result<u32> {
        self.namespace.enter(|| {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            Ok(name_to_index(&socket, self.interface)?)
        })
    }

    /// Its Ethernet address.
    pub fn mac(&self) -> [u8; 6] {
        [2, 0, 0, 0, 0, self.number]
    }

    /// A frame from here to nobody on the other end, whose stack says nothing to it: Ethernet,
    /// IPv4 from 0.0.0.0, UDP from and to these ports, no checksums.
    pub fn to_nobody(&self, from: u16, to: u16) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 0xee];
        frame.extend(self.mac());
        frame.extend([0x08, 0x00, 0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0]);
        frame.extend([0, 0, 0, 0, 10, 77, 1, 1]);
        frame.extend([from, to].map(u16::to_be_bytes).concat());
        frame.extend([0, 26, 0, 0]);
        frame.resize(60, 0);
        frame
    }

    fn mac_text(&self) -> String {
        format!("02:00:00:00:00:{:02x}", self.number)
    }

    /// Addresses for itself, static neighbours for the other side; then up.
    fn configure(&self, other: &Self) -> Result<()> {
        use std::fmt::Write;
        let device = self.interface;
        let mut lines = format!("link set {device} address {}\n", self.mac_text());
        for host in 0..HOSTS {
            writeln!(lines, "addr add {}/16 dev {device}", self.v4(host))?;
            writeln!(lines, "addr add {}/64 dev {device} nodad", self.v6(host))?;
        }
        writeln!(lines, "link set {device} up")?;
        for address in (0..HOSTS).flat_map(|host| [other.v4(host), other.v6(host)]) {
            let mac = other.mac_text();
            writeln!(lines, "neigh replace {address} lladdr {mac} nud permanent dev {device}")?;
        }
        self.namespace.ip(&lines)
    }
}

/// The two ends; everything is removed when it is dropped.
#[derive(Debug)]
pub struct Lab {
    /// The end called left, or a.
    pub left: Side,
    /// The end called right, or b.
    pub right: Side,
}

impl Lab {
    /// A lab for a test: namespaces `flow-PID-aN` and `flow-PID-bN`.
    pub fn new() -> Result<Self> {
        static LABS: AtomicU32 = AtomicU32::new(0);
        let (pid, lab) = (std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        Self::named(&format!("flow-{pid}-a{lab}"), &format!("flow-{pid}-b{lab}"))
    }

    /// The demo's lab: namespaces `flow-demo-PID-left` and `flow-demo-PID-right`.
    pub fn demo() -> Result<Self> {
        let pid = std::process::id();
        Self::named(&format!("flow-demo-{pid}-left"), &format!("flow-demo-{pid}-right"))
    }

    fn named(left: &str, right: &str) -> Result<Self> {
        namespace::sweep();
        let left = Side { namespace: Namespace::create(left)?, interface: "veth-left", number: 1 };
        let right =
            Side { namespace: Namespace::create(right)?, interface: "veth-right", number: 2 };
        // Numbers of their own, so that the agent loads its programs once.
        left.namespace.ip(&format!(
            "link add veth-left index 101 type veth peer name veth-right index 102 netns {}\n",
            right.namespace.name()
        ))?;
        left.configure(&right)?;
        right.configure(&left)?;
        let lab = Self { left, right };
        lab.wait_quiet().context("the lab's wire does not become quiet")?;
        Ok(lab)
    }

    /// Waits until no packet has passed either end for a while.
    pub fn wait_quiet(&self) -> Result<()> {
        for side in [&self.left, &self.right] {
            side.namespace.enter(|| tally::wait_quiet(side.interface, QUIET))?;
        }
        Ok(())
    }
}
