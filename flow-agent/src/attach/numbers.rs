//! The agent's numbers for interfaces: taken when one is metered, given back when it is gone.
//!
//! It holds that a number is not given to another interface before the records of
//! the first have left: that takes the cool-down, which the caller knows.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::names::NameBook;

/// Numbers from 1 up to a limit.
#[derive(Debug)]
pub struct Numbers {
    names: NameBook,
    /// The largest number given so far.
    highest: u16,
    /// No number is above this.
    most: u16,
    /// Given back, oldest first, with the time since when.
    cooling: VecDeque<(Instant, u16)>,
    cool_down: Duration,
}

impl Numbers {
    /// Numbers 1 to `most`, whose names go to `names`; one that was given back is used
    /// again after `cool_down`.
    pub fn new(most: u16, cool_down: Duration, names: NameBook) -> Self {
        Self { names, highest: 0, most, cooling: VecDeque::new(), cool_down }
    }

    /// A number for an interface of this name; none when all are in use or cooling.
    pub fn take(&mut self, name: &str, now: Instant) -> Option<u16> {
        let cool = |(since, _): &mut (Instant, u16)| {
            now.saturating_duration_since(*since) >= self.cool_down
        };
        let number = match self.cooling.pop_front_if(cool) {
            Some((_, number)) => number,
            None if self.highest < self.most => {
                self.highest += 1;
                self.highest
            }
            None => return None,
        };
        self.names.set(number, name);
        Some(number)
    }

    /// Gives a number back; its name stays until it is taken again.
    pub fn give_back(&mut self, number: u16, now: Instant) {
        self.cooling.push_back((now, number));
    }

    /// The largest number there is.
    pub fn most(&self) -> u16 {
        self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Names;

    #[test]
    fn a_number_rests_before_another_interface_gets_it() {
        let names = NameBook::new(Names::new("host", &[""; 0]));
        let minute = Duration::from_mins(1);
        let mut numbers = Numbers::new(2, minute, names.clone());
        let start = Instant::now();
        assert_eq!(numbers.take("a", start), Some(1));
        numbers.give_back(1, start);
        assert_eq!(numbers.take("b", start), Some(2));
        assert_eq!(numbers.take("c", start + minute / 2), None);
        assert_eq!(&**names.current().interface(1), "a", "its records may still be on their way");
        assert_eq!(numbers.take("c", start + minute), Some(1));
        assert_eq!(&**names.current().interface(1), "c");
        assert_eq!(numbers.most(), 2);
    }
}
