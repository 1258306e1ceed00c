//! Scripts: seeded chance, and one fault for the first try of each batch.

use std::collections::HashSet;
use std::time::Duration;

use super::{Answer, Fault, Request};
use crate::wild::Dice;

/// What chance picks from: faults that pass, and after which a store may or may not have the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`Fault::Reset`].
    Reset,
    /// [`Fault::CutRequest`], anywhere.
    CutRequest,
    /// [`Fault::CutAnswer`], anywhere.
    CutAnswer,
    /// [`Fault::DropReply`].
    DropReply,
    /// [`Fault::Instead`] of 500, 503 or an error of ClickHouse that passes.
    Refusal,
    /// [`Fault::After`] of the same.
    RefusalAfter,
    /// [`Fault::Slow`].
    Slow,
    /// [`Fault::DelayReply`] by at most half a second.
    Delay,
}

/// All of them.
const ALL: [Kind; 8] = [
    Kind::Reset,
    Kind::CutRequest,
    Kind::CutAnswer,
    Kind::DropReply,
    Kind::Refusal,
    Kind::RefusalAfter,
    Kind::Slow,
    Kind::Delay,
];

/// Errors that pass: too many parts, memory, too many queries, timeout.
const PASSING: [u32; 4] = [252, 241, 202, 159];

/// A seeded script: the same seed decides the same.
#[derive(Debug, Clone)]
pub struct Schedule {
    dice: Dice,
    one_in: usize,
    kinds: Vec<Kind>,
    longest_body: usize,
}

impl Schedule {
    /// Every kind of fault, for one in so many requests.
    pub fn new(seed: u64, one_in: usize) -> Self {
        Self { dice: Dice::new(seed), one_in, kinds: ALL.to_vec(), longest_body: 100_000 }
    }

    /// Only these kinds.
    #[must_use]
    pub fn of(mut self, kinds: &[Kind]) -> Self {
        self.kinds = kinds.to_vec();
        self
    }

    /// Bodies are cut somewhere before this.
    #[must_use]
    pub fn cut_within(mut self, octets: usize) -> Self {
        self.longest_body = octets.max(1);
        self
    }

    /// What becomes of the next request.
    pub fn next_fault(&mut self) -> Option<Fault> {
        if !self.dice.once_in(self.one_in) {
            return None;
        }
        let kind = self.dice.pick(&self.kinds);
        let dice = &mut self.dice;
        Some(match kind {
            Kind::Reset => Fault::Reset,
            Kind::CutRequest => Fault::CutRequest { after: dice.below(self.longest_body) as u64 },
            Kind::CutAnswer => Fault::CutAnswer { after: dice.below(400) as u64 },
            Kind::DropReply => Fault::DropReply,
            Kind::Refusal => Fault::Instead(refusal(dice)),
            Kind::RefusalAfter => Fault::After(refusal(dice)),
            Kind::Slow => Fault::Slow { rate: 50_000 + dice.below(500_000) as u64 },
            Kind::Delay => Fault::DelayReply(Duration::from_millis(dice.below(500) as u64)),
        })
    }

    /// As a script for [`super::Proxy::on_request`] and the like.
    pub fn script(mut self) -> impl FnMut(&Request) -> Option<Fault> + Send + 'static {
        move |_| self.next_fault()
    }

    /// A script: what `fault` says for the first try of each batch, told by its token, until there
    /// were so many; nothing for later tries.
    pub fn first_tries(
        most: u64,
        mut fault: impl FnMut(u64) -> Fault + Send + 'static,
    ) -> impl FnMut(&Request) -> Option<Fault> + Send + 'static {
        let mut tried = HashSet::new();
        move |request| {
            let token = request.token.clone()?;
            let number = tried.len() as u64;
            (number < most && tried.insert(token)).then(|| fault(number))
        }
    }
}

fn refusal(dice: &mut Dice) -> Answer {
    match dice.below(3) {
        0 => Answer::Status(500),
        1 => Answer::Status(503),
        _ => Answer::Exception(dice.pick(&PASSING)),
    }
}
