//! The protocol by which a batch gets into its table and every rollup exactly once.
//!
//! Enters: what the store answered to the step before. Leaves: the next [`Step`]. There is no
//! clock and no I/O here. It holds that rows are sent again only after the store was asked and
//! has none of them, that rows which may be there are never sent under a token that the store
//! does not know them by, and that a batch ends as acknowledged, refused, or stuck with a reason.
//!
//! A first try that is answered with success needs no question: nothing but this batch has its
//! token. After anything else the batch is in doubt and stays so: whatever may still run of it is
//! killed on every replica, one replica is brought up to date, and its evidence of the table and
//! each rollup says what is there. What that evidence calls for is done on the same replica.

use super::class::Class;

/// New tokens, and new tokens of a repair, before a batch is stuck: each was accepted, and its
/// rows are not there.
const MOST_TOKENS: u32 = 3;

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Insert the batch under its token of this number; tries count from 1.
    Send {
        /// From 0; 0 is the id of the batch itself.
        token: u32,
        /// For the query id.
        attempt: u32,
    },
    /// End whatever runs under a query id of the batch, on every replica where it may.
    Kill,
    /// Choose a replica, and have it know what all the others know. The steps that follow go to
    /// it, up to the next [`Step::Send`].
    Sync,
    /// Count the batch's rows: in the table, then in each rollup.
    Ask,
    /// Make the rows of the rollup with this number from those of the table.
    Repair {
        /// Position among the rollups.
        rollup: usize,
        /// From 0.
        token: u32,
        /// For the query id.
        attempt: u32,
    },
    /// Give the table the rows without showing them to the rollups, which have them.
    Restore {
        /// For the query id.
        attempt: u32,
    },
    /// Delete the batch's rows from the table.
    Remove,
    /// Wait before the next step. `held`: until somebody does something.
    Pause {
        /// The last answer will be the same until somebody does something.
        held: bool,
    },
    /// Nothing more.
    End(End),
}

/// How a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The store has every row once. `doubted`: that was asked for.
    Acknowledged {
        /// The evidence was asked.
        doubted: bool,
    },
    /// The store has none of the rows, because of what is in them: to be split.
    Refused,
    /// It has something else than all or nothing.
    Stuck(Stuck),
}

/// Why a batch cannot go on by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// A rollup has some of the rows, or more than all.
    Partial,
    /// It is accepted again and again, and not there.
    Vanishes,
}

impl Stuck {
    /// What it means, for people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Partial => "a rollup has another number of its rows",
            Self::Vanishes => {
                "the store accepts the batch and does not have it: it expires at once, or \
                 somebody deletes it"
            }
        }
    }
}

/// What the store answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done. To a [`Step::Pause`]: it is over.
    Done,
    /// Not done, or nobody knows.
    Failed(Class),
    /// To [`Step::Ask`]: rows in the table, then in each rollup.
    Counted(Vec<u64>),
}

/// What came before the evidence is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// An agent that has ended, or a failure that may pass.
    Unknown,
    /// The store refused the rows.
    Rows,
    /// It accepted them.
    Sent,
    /// It accepted a repair.
    Repaired(usize),
    /// What was there in part is deleted.
    Removed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Send,
    Kill(Before),
    Sync(Before),
    Ask(Before),
    Repair(usize),
    Restore,
    Remove,
    Ended(End),
}

/// Where one batch is in the protocol.
#[derive(Clone, Debug)]
pub struct Protocol {
    rows: u64,
    phase: Phase,
    /// A pause comes before the phase, held or not.
    pause: Option<bool>,
    doubted: bool,
    token: u32,
    attempt: u32,
    /// The tokens of repairs, by rollup.
    repairs: Vec<u32>,
    restored: u32,
    removed: u32,
}

impl Protocol {
    /// For a batch of so many rows that also belong in so many rollups. `in_doubt`: an agent
    /// before this one may have sent it.
    pub fn new(rows: u64, rollups: usize, in_doubt: bool) -> Self {
        Self {
            rows,
            phase: if in_doubt { Phase::Kill(Before::Unknown) } else { Phase::Send },
            pause: None,
            doubted: in_doubt,
            token: 0,
            attempt: 1,
            repairs: vec![0; rollups],
            restored: 0,
            removed: 0,
        }
    }

    /// What is to be done now.
    pub fn step(&self) -> Step {
        if let Some(held) = self.pause {
            return Step::Pause { held };
        }
        match self.phase {
            Phase::Send => Step::Send { token: self.token, attempt: self.attempt },
            Phase::Kill(_) => Step::Kill,
            Phase::Sync(_) => Step::Sync,
            Phase::Ask(_) => Step::Ask,
            Phase::Repair(rollup) => {
                Step::Repair { rollup, token: self.repairs[rollup], attempt: self.attempt }
            }
            Phase::Restore => Step::Restore { attempt: self.attempt },
            Phase::Remove => Step::Remove,
            Phase::Ended(end) => Step::End(end),
        }
    }

    /// True once what was sent may be in the store without its having said so.
    pub fn is_in_doubt(&self) -> bool {
        self.doubted
    }

    /// Takes the answer to [`Protocol::step`].
    pub fn answer(&mut self, answer: Answer) {
        if self.pause.take().is_some() {
            return;
        }
        match answer {
            Answer::Done => self.done(),
            Answer::Failed(class) => self.failed(class),
            Answer::Counted(counts) => {
                if let Phase::Ask(before) = self.phase {
                    self.phase = self.judge(before, &counts);
                }
            }
        }
    }

    fn done(&mut self) {
        self.phase = match self.phase {
            Phase::Send if !self.doubted => Phase::Ended(End::Acknowledged { doubted: false }),
            Phase::Send => Phase::Sync(Before::Sent),
            Phase::Kill(before) => Phase::Sync(before),
            Phase::Sync(before) | Phase::Ask(before) => Phase::Ask(before),
            Phase::Repair(rollup) => Phase::Sync(Before::Repaired(rollup)),
            Phase::Restore => {
                self.restored += 1;
                Phase::Sync(Before::Unknown)
            }
            Phase::Remove => {
                self.removed += 1;
                Phase::Sync(Before::Removed)
            }
            ended @ Phase::Ended(_) => ended,
        };
    }

    fn failed(&mut self, class: Class) {
        self.pause = Some(class == Class::Held);
        match self.phase {
            // It has not left this host: nothing is different.
            Phase::Send if class == Class::NotSent => {}
            // Another replica may do it, once it is up to date; a restoration is several requests,
            // of which only the last one was not sent.
            Phase::Repair(_) | Phase::Restore if class == Class::NotSent => {
                self.phase = Phase::Sync(Before::Unknown);
            }
            Phase::Send => {
                self.doubted = true;
                self.attempt += 1;
                let rows = class == Class::Rows;
                if rows {
                    self.pause = None;
                }
                self.phase = Phase::Kill(if rows { Before::Rows } else { Before::Unknown });
            }
            Phase::Repair(_) | Phase::Restore | Phase::Remove => {
                self.attempt += 1;
                self.phase = Phase::Kill(Before::Unknown);
            }
            Phase::Kill(_) => {}
            // The next replica to be asked is another one, perhaps.
            Phase::Sync(before) | Phase::Ask(before) => self.phase = Phase::Sync(before),
            Phase::Ended(_) => self.pause = None,
        }
    }

    /// What follows from what is there.
    fn judge(&mut self, before: Before, counts: &[u64]) -> Phase {
        let stuck = |why| Phase::Ended(End::Stuck(why));
        let Some((table, rollups)) = counts.split_first() else {
            return stuck(Stuck::Partial);
        };
        if rollups.iter().any(|count| *count != 0 && *count != self.rows) {
            return stuck(Stuck::Partial);
        }
        let missing = rollups.iter().position(|count| *count == 0);
        let nowhere = rollups.iter().all(|count| *count == 0);
        match *table {
            0 if nowhere => self.absent(before),
            // The store knew the token and showed the rows to the rollups alone.
            0 if self.restored < MOST_TOKENS => Phase::Restore,
            0 => stuck(Stuck::Vanishes),
            rows if rows == self.rows => match missing {
                None => Phase::Ended(End::Acknowledged { doubted: true }),
                Some(rollup) => self.repair(before, rollup),
            },
            _ if self.removed < MOST_TOKENS => Phase::Remove,
            _ => stuck(Stuck::Vanishes),
        }
    }

    /// No row is anywhere.
    fn absent(&mut self, before: Before) -> Phase {
        match before {
            Before::Unknown | Before::Repaired(_) => Phase::Send,
            Before::Rows => Phase::Ended(End::Refused),
            // Accepted and not there: a token that is known without its rows.
            Before::Sent | Before::Removed if self.token + 1 < MOST_TOKENS => {
                self.token += 1;
                self.attempt += 1;
                Phase::Send
            }
            Before::Sent | Before::Removed => Phase::Ended(End::Stuck(Stuck::Vanishes)),
        }
    }

    /// The table has the batch, this rollup has not.
    fn repair(&mut self, before: Before, rollup: usize) -> Phase {
        if before == Before::Repaired(rollup) {
            self.repairs[rollup] += 1;
            self.attempt += 1;
            if self.repairs[rollup] == MOST_TOKENS {
                return Phase::Ended(End::Stuck(Stuck::Vanishes));
            }
        }
        Phase::Repair(rollup)
    }
}

#[cfg(test)]
mod model;
