//! The places of the ledger: where a packet can be, and why it is not in the store.
//!
//! Labels are those of the table `ledger`; numbers are read by the next version of the agent.

use flow_common::{Lost, NotMetered};

use crate::sink::quarantine::Reason;
use crate::spool::LossReason;

/// Why records that were drained are not in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LostRecord {
    /// The spool dropped them, lost them, or had them in memory alone when the agent ended.
    Spool(LossReason),
    /// The store refused them: they are in the quarantine folder, not lost.
    Quarantined,
    /// They are in the quarantine folder, and some or all of them may be in the store.
    Uncertain,
    /// An agent that was killed held them.
    Crash,
}

impl LostRecord {
    /// Every reason.
    pub const ALL: [Self; LossReason::ALL.len() + 3] = {
        let mut all = [Self::Crash; LossReason::ALL.len() + 3];
        let mut at = 0;
        while at < LossReason::ALL.len() {
            all[at] = Self::Spool(LossReason::ALL[at]);
            at += 1;
        }
        all[at] = Self::Quarantined;
        all[at + 1] = Self::Uncertain;
        all
    };

    /// For what is put aside.
    pub const fn aside(reason: Reason) -> Self {
        match reason {
            Reason::Refused => Self::Quarantined,
            Reason::Stuck | Reason::Late => Self::Uncertain,
        }
    }

    /// The label in the ledger.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Spool(reason) => reason.label(),
            Self::Quarantined => "quarantined",
            Self::Uncertain => "uncertain",
            Self::Crash => "crash",
        }
    }
}

/// A place in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// A hook was given the packet.
    Seen,
    /// It is in a drained row.
    Metered,
    /// It has no flow (index into [`NotMetered::ALL`]).
    NotMetered(u8),
    /// Its flow was lost in the kernel (index into [`Lost::ALL`]).
    Lost(u8),
    /// The agent took it over from the kernel.
    Drained,
    /// It was in the spool when the agent started.
    Recovered,
    /// It is in the spool for the next agent.
    Spooled,
    /// The store has it.
    Acknowledged,
    /// The agent had it and could not store it.
    LostRecord(LostRecord),
    /// It was put aside, and somebody has sent it again: the store has it.
    Resent(LostRecord),
    /// A later fragment was metered with ports 0: a note beside the balance.
    FragmentWithoutPorts,
}

impl Entry {
    /// Stage and reason, as the table `ledger` has them.
    pub fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Seen => ("seen", ""),
            Self::Metered => ("metered", ""),
            Self::NotMetered(reason) => {
                ("not_metered", NotMetered::ALL[usize::from(reason)].label())
            }
            Self::Lost(reason) => ("lost", Lost::ALL[usize::from(reason)].label()),
            Self::Drained => ("drained", ""),
            Self::Recovered => ("recovered", ""),
            Self::Spooled => ("spooled", ""),
            Self::Acknowledged => ("acknowledged", ""),
            Self::LostRecord(reason) => ("undelivered", reason.label()),
            Self::Resent(reason) => ("resent", reason.label()),
            Self::FragmentWithoutPorts => ("note", "fragment_without_ports"),
        }
    }

    /// The entry with these labels; none if this version knows none.
    pub fn from_labels(stage: &str, reason: &str) -> Option<Self> {
        Self::all().find(|entry| entry.labels() == (stage, reason))
    }

    /// Every entry there is.
    pub fn all() -> impl Iterator<Item = Self> {
        let not_metered = (0..NotMetered::COUNT).map(|reason| Self::NotMetered(reason as u8));
        let lost = (0..Lost::COUNT).map(|reason| Self::Lost(reason as u8));
        let records = LostRecord::ALL.into_iter().map(Self::LostRecord);
        // Only what was put aside can be sent again.
        let resent = [LostRecord::Quarantined, LostRecord::Uncertain].map(Self::Resent);
        [
            Self::Seen,
            Self::Metered,
            Self::Drained,
            Self::Recovered,
            Self::Spooled,
            Self::Acknowledged,
            Self::FragmentWithoutPorts,
        ]
        .into_iter()
        .chain(not_metered)
        .chain(lost)
        .chain(records)
        .chain(resent)
    }

    /// Its number in an estate; the next version of the agent must read it, too.
    pub fn code(self) -> u8 {
        const NOT_METERED: u8 = 16;
        const LOST: u8 = 64;
        const LOST_RECORD: u8 = 96;
        const RESENT: u8 = 128;
        let record =
            |wanted| LostRecord::ALL.iter().position(|it| *it == wanted).unwrap_or(0) as u8;
        match self {
            Self::Seen => 0,
            Self::Metered => 1,
            Self::Drained => 2,
            Self::Recovered => 3,
            Self::Spooled => 4,
            Self::Acknowledged => 5,
            Self::FragmentWithoutPorts => 6,
            Self::NotMetered(reason) => NOT_METERED + reason,
            Self::Lost(reason) => LOST + reason,
            Self::LostRecord(reason) => LOST_RECORD + record(reason),
            Self::Resent(reason) => RESENT + record(reason),
        }
    }

    /// The entry with this number; none if this version knows none.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::all().find(|entry| entry.code() == code)
    }

    /// 1 for what an agent takes over, -1 for what leaves it, 0 for all else.
    pub fn in_flight(self) -> i64 {
        match self {
            Self::Drained | Self::Recovered => 1,
            Self::Acknowledged | Self::Spooled | Self::LostRecord(_) => -1,
            _ => 0,
        }
    }
}
