//! The clsact qdisc, which TC programs need before Linux 6.6.
//!
//! Enters: an interface of this thread's namespace. It holds that a qdisc that the agent has made
//! goes with its programs, unless somebody else has put a filter there meanwhile.

use aya::programs::tc::qdisc_add_clsact;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcHandle, TcMessage};

use super::Interface;
use super::netlink::{list, tell};

/// `TC_H_CLSACT`, and with it as the major number its two hooks, ingress and egress.
const CLSACT: TcHandle = TcHandle { major: u16::MAX, minor: 0xfff1 };
/// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)` and `TC_H_MIN_EGRESS`.
pub const HOOKS: [TcHandle; 2] =
    [TcHandle { major: u16::MAX, minor: 0xfff2 }, TcHandle { major: u16::MAX, minor: 0xfff3 }];

/// A qdisc that the agent has made. To be dropped in the namespace of its interface, after the
/// agent's filters.
pub struct Clsact {
    ifindex: u32,
}

impl Clsact {
    /// Makes one; none if there is one already, which is as good, or if it is refused, which
    /// attaching says.
    pub fn make(interface: &Interface) -> Option<Self> {
        qdisc_add_clsact(&interface.name).ok().map(|()| Self { ifindex: interface.place.ifindex })
    }

    /// True if there is no filter, and the kernel says so.
    fn is_empty(&self) -> bool {
        HOOKS.into_iter().all(|hook| {
            let mut filters = 0;
            let question = RouteNetlinkMessage::GetTrafficFilter(message(self.ifindex, hook));
            list(question, |_| filters += 1).is_ok() && filters == 0
        })
    }
}

impl Drop for Clsact {
    fn drop(&mut self) {
        if !self.is_empty() {
            return;
        }
        let mut qdisc = message(self.ifindex, CLSACT);
        qdisc.header.handle = TcHandle { major: u16::MAX, minor: 0 };
        if let Err(error) = tell(RouteNetlinkMessage::DelQueueDiscipline(qdisc)) {
            tracing::debug!("the clsact qdisc of interface {} stays: {error}", self.ifindex);
        }
    }
}

/// A message about a place of an interface.
fn message(ifindex: u32, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::with_index(ifindex as i32);
    message.header.parent = parent;
    message
}
