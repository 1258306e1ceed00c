//! What can happen to one connection or request.

use std::time::Duration;

use super::Answer;

/// A fault. The names in [`Fault::name`] are what [`super::Fired`] counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The connection is reset; of a request only the head was read, the store hears nothing.
    Reset,
    /// The request is read and never answered; the store hears nothing.
    Hang,
    /// So many octets of the body reach the store (of a shorter one: all but the last), and
    /// then nothing more happens on either side: the store's query stays open.
    Stall {
        /// Octets of the body, as sent.
        after: u64,
    },
    /// Both directions at this speed.
    Slow {
        /// Octets a second.
        rate: u64,
    },
    /// So many octets of the body reach the store (of a shorter one: all but the last), then
    /// both connections are reset.
    CutRequest {
        /// Octets of the body, as sent.
        after: u64,
    },
    /// The store answers, but only so many octets of the answer (of a shorter one: all but the
    /// last) come back before the connection ends.
    CutAnswer {
        /// Octets of head and body.
        after: u64,
    },
    /// The store gets the whole request and answers; then the connection is reset. Counted only
    /// if the answer was 200: what was asked for is done.
    DropReply,
    /// The answer comes so late.
    DelayReply(Duration),
    /// Another answer; the store hears nothing.
    Instead(Answer),
    /// The store gets the whole request and answers, and the client is told something else.
    /// Counted only if the store's answer was 200.
    After(Answer),
    /// Before any request: these octets are sent in answer to the first that come, then the
    /// connection ends.
    Hello(Vec<u8>),
}

impl Fault {
    /// What it is counted as.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Hang => "hang",
            Self::Stall { .. } => "stall",
            Self::Slow { .. } => "slow",
            Self::CutRequest { .. } => "cut request",
            Self::CutAnswer { .. } => "cut answer",
            Self::DropReply => "drop reply",
            Self::DelayReply(_) => "delay reply",
            Self::Instead(_) => "other answer",
            Self::After(_) => "other answer after the commit",
            Self::Hello(_) => "hello",
        }
    }
}
