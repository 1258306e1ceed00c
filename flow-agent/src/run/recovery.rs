//! Recovery: what agents that were killed had counted becomes records of this one.

use std::sync::Arc;
use std::time::Instant;

use super::books::enter;
use crate::attach::{Interface, Numbers, PinFolder};
use crate::cache::Intake;
use crate::clock::wall_clock;
use crate::drain::{Destination, Drain, DrainError, FlowEntry, Interval, Leftover};
use crate::estate::Witness;
use crate::failpoint::failpoint;
use crate::ledger::{Counts, Ledger};

/// What recovery works with.
pub struct Recovery<'a> {
    /// Those to be metered: a killed agent may have left its programs there.
    pub interfaces: &'a [Interface],
    pub drain: &'a mut Drain,
    pub intake: &'a mut Intake,
    pub numbers: &'a mut Numbers,
    pub ledger: &'a Ledger,
}

impl Recovery<'_> {
    /// Takes over the folders of dead agents. What cannot be read stays and is named.
    pub fn run(&mut self, folders: Vec<PinFolder>) {
        for folder in folders {
            let path = folder.path().display().to_string();
            match self.take_over(folder) {
                Ok(None) => {}
                Ok(Some(packets)) => {
                    tracing::info!("{path}: {packets} packets of an agent that was killed");
                }
                Err(error) => tracing::warn!(
                    "{path}: what a killed agent had counted cannot be read: {error}; \
                     remove the folder to free its memory"
                ),
            }
        }
    }

    /// Packets that were seen and are now in the books; none if nothing was metered.
    fn take_over(&mut self, folder: PinFolder) -> Result<Option<u64>, DrainError> {
        if Leftover::is_unused(&folder)? {
            remove(folder);
            return Ok(None);
        }
        let mut leftover = Leftover::open(&folder, self.interfaces)?;
        let clock = self.drain.clock(wall_clock)?;
        let mut translation = Translation::new(leftover.names()?, self.numbers);
        let (intake, mut last) = (&mut *self.intake, None::<Interval>);
        let books = leftover.read(&clock, |entry, interval| {
            // A batch has one interval, and so one sampling weight: that of its generation.
            if let Some(last) = last.filter(|last| last.sampling != interval.sampling) {
                intake.flush(&last);
            }
            last = Some(*interval);
            let mut hot = *entry.hot;
            hot.key.interface = translation.number(hot.key.interface);
            intake.flow(FlowEntry { hot: &hot, ..entry }, interval);
        });
        if let Some(interval) = last {
            intake.flush(&interval);
        }
        translation.give_back();
        failpoint!("start::taken");
        let (mut packets, mut counts) = (0, Counts::new());
        for (name, balance) in books? {
            packets += balance.seen.packets;
            let name: Arc<str> = if name.is_empty() { "unknown".into() } else { name.into() };
            enter(&mut counts, &name, &balance);
        }
        // Gone with its tables: nobody takes them once more.
        let witness = Witness::Tables(leftover.instance());
        self.ledger.post(&counts, witness, || remove(folder));
        Ok(Some(packets))
    }
}

fn remove(folder: PinFolder) {
    if let Err(error) = folder.remove() {
        tracing::warn!("{error}");
    }
}

/// The interface numbers of a dead agent become numbers of this one, which rest afterwards
/// like those of interfaces that have gone. Only those of flows are needed. Without a free
/// one the interface is unknown.
struct Translation<'a> {
    /// By the dead agent's number.
    names: Vec<String>,
    numbers: &'a mut Numbers,
    known: Vec<Option<u16>>,
}

impl<'a> Translation<'a> {
    fn new(names: Vec<String>, numbers: &'a mut Numbers) -> Self {
        let known = vec![None; names.len()];
        Self { names, numbers, known }
    }

    fn number(&mut self, theirs: u16) -> u16 {
        let theirs = usize::from(theirs);
        let (Some(known), Some(name)) = (self.known.get_mut(theirs), self.names.get(theirs)) else {
            return 0;
        };
        let take = || {
            let number =
                if name.is_empty() { None } else { self.numbers.take(name, Instant::now()) };
            number.unwrap_or(0)
        };
        *known.get_or_insert_with(take)
    }

    fn give_back(self) {
        let now = Instant::now();
        for number in self.known.into_iter().flatten().filter(|number| *number != 0) {
            self.numbers.give_back(number, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::names::{NameBook, Names};

    #[test]
    fn only_interfaces_with_flows_take_a_number() {
        let names = NameBook::new(Names::new("host", &[""; 0]));
        let mut numbers = Numbers::new(3, Duration::from_mins(1), names.clone());
        let theirs = ["", "a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        let mut translation = Translation::new(theirs, &mut numbers);
        let ours = [5, 0, 2, 5, 99].map(|number| translation.number(number));
        assert_eq!(ours, [1, 0, 2, 1, 0]);
        translation.give_back();
        let now = Instant::now();
        assert_eq!(&**names.current().interface(1), "e", "until its records have left");
        assert_eq!([numbers.take("f", now), numbers.take("g", now)], [Some(3), None]);
    }
}
