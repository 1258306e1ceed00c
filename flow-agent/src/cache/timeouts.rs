//! When flows leave: by class of traffic, by age, and who leaves first when there is no room.

use std::time::Duration;

use flow_common::key::protocol;
use flow_common::tcp::flags::{FIN, RST};

/// Traffic that has timeouts of its own, and flows that linger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// TCP, no end seen.
    Tcp = 0,
    /// TCP, one end has sent FIN.
    TcpClosing = 1,
    /// UDP and UDP-Lite.
    Udp = 2,
    /// ICMP and ICMPv6.
    Icmp = 3,
    /// Everything else.
    Other = 4,
    /// FIN from both ends, or RST from one.
    Ended = 5,
}

impl Class {
    /// Classes of open flows.
    pub const OPEN: [Self; 5] = [Self::Tcp, Self::TcpClosing, Self::Udp, Self::Icmp, Self::Other];
    /// All, those that linger included.
    pub const COUNT: usize = 6;

    /// The name in configuration and documents.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::TcpClosing => "tcp_closing",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Other => "other",
            Self::Ended => "ended",
        }
    }

    /// True for flags after which a flow may be of another class.
    #[inline(always)]
    pub const fn may_change(tcp_flags: u8) -> bool {
        tcp_flags & (FIN | RST) != 0
    }

    /// Of an open flow whose ends sent these flags, taken together.
    #[inline]
    pub const fn of(protocol: u8, tcp_flags: u8) -> Self {
        match protocol {
            protocol::TCP if tcp_flags & FIN != 0 => Self::TcpClosing,
            protocol::TCP => Self::Tcp,
            protocol::UDP | protocol::UDP_LITE => Self::Udp,
            protocol::ICMP | protocol::ICMPV6 => Self::Icmp,
            _ => Self::Other,
        }
    }
}

/// When the flows of a class are emitted; what is not said is as for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassTimeouts {
    /// After this long without a packet.
    pub idle: Option<Duration>,
    /// At the first packet after the record has lasted this long.
    pub active: Option<Duration>,
}

/// When flows are emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// After this long without a packet.
    pub idle: Duration,
    /// At the first packet after the flow has lasted this long; it goes on.
    pub active: Duration,
    /// This long after FIN both ways or RST, so that the last ACK opens no new flow.
    pub linger: Duration,
    /// What is different for [`Class::OPEN`], in that order.
    pub classes: [ClassTimeouts; 5],
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(15),
            active: Duration::from_secs(60),
            linger: Duration::from_secs(2),
            classes: [ClassTimeouts::default(); 5],
        }
    }
}

impl Timeouts {
    /// Of each class, in ns; the idle timeout of ended flows is the time that they linger.
    pub fn idle_ns(&self) -> [u64; Class::COUNT] {
        self.each(|class| class.idle, self.idle, self.linger)
    }

    /// Of each class, in ns; ended flows have none.
    pub fn active_ns(&self) -> [u64; Class::COUNT] {
        self.each(|class| class.active, self.active, Duration::MAX)
    }

    /// The longest that a record can be open while packets of its flow come.
    pub fn longest(&self) -> Duration {
        let longest = |own: fn(&ClassTimeouts) -> Option<Duration>, all| {
            self.classes.iter().filter_map(own).fold(all, Duration::max)
        };
        longest(|class| class.idle, self.idle).max(longest(|class| class.active, self.active))
    }

    fn each(
        &self,
        own: impl Fn(&ClassTimeouts) -> Option<Duration>,
        all: Duration,
        ended: Duration,
    ) -> [u64; Class::COUNT] {
        std::array::from_fn(|class| {
            let timeout = self.classes.get(class).map_or(ended, |class| own(class).unwrap_or(all));
            u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX)
        })
    }
}

/// Who leaves first when there is no room. Flows that have ended leave before all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The flow whose last packet is the longest ago.
    #[default]
    Lru,
    /// The flow whose record is the oldest.
    Fifo,
    /// The same, and a record is emitted at a fixed age, [`Limits::ttl`], by the clock.
    Ttl,
}

impl Policy {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Lru, Self::Fifo, Self::Ttl];

    /// The name in configuration and documents.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Lru => "lru",
            Self::Fifo => "fifo",
            Self::Ttl => "ttl",
        }
    }
}

/// What a shard may hold, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Who leaves first.
    pub policy: Policy,
    /// Open flows, at least one.
    pub max_flows: usize,
    /// Memory, octets; none for as much as that many flows take.
    pub max_memory: Option<u64>,
    /// Records are emitted at this age, whether packets come or not; the flow goes on with its
    /// initiator until it is idle.
    pub ttl: Option<Duration>,
    /// When flows are emitted.
    pub timeouts: Timeouts,
    /// False passes every update through as a record of its own.
    pub enabled: bool,
}

impl Limits {
    /// The age of records where the policy is [`Policy::Ttl`] and nothing is said.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(60);

    /// At most so many flows, by the default policy.
    pub const fn new(max_flows: usize, timeouts: Timeouts) -> Self {
        let (policy, max_memory, ttl, enabled) = (Policy::Lru, None, None, true);
        Self { policy, max_flows, max_memory, ttl, timeouts, enabled }
    }

    /// A record's largest age.
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl.or((self.policy == Policy::Ttl).then_some(Self::DEFAULT_TTL))
    }

    /// True when flows are kept by the age of their records, too.
    pub(super) fn by_age(&self) -> bool {
        self.policy != Policy::Lru || self.ttl().is_some()
    }

    /// One of `shards` equal parts; a shard has room for one flow at least.
    #[must_use]
    pub fn divided(&self, shards: usize) -> Self {
        let shards = shards.max(1);
        Self {
            max_flows: self.max_flows.div_ceil(shards).max(1),
            max_memory: self.max_memory.map(|octets| octets / shards as u64),
            ..*self
        }
    }
}
