//! The protocol against a model of a store with every fault that is known of one.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const ROWS: u64 = 7;
/// No run of a few dozen faults takes longer.
const MOST_STEPS: usize = 2_000;

/// What goes wrong with one request; each makes sense for some requests only.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    /// It never leaves this host.
    NotSent,
    /// It is lost on the way.
    Lost,
    /// It is done, and the answer is lost.
    Unanswered,
    /// It is done later, when what still runs is looked for.
    Late,
    /// The engine dies between its deduplication log and the part of the table.
    TokenWithoutPart,
    /// The engine dies before any rollup.
    TableAlone,
    /// It dies between the rollups.
    FirstRollupAlone,
    /// The table's part is damaged later; its token stays, and so do the rollups.
    TableLost,
    /// The same, tokens and all.
    TableForgotten,
    /// Some rows are in the table.
    SomeRows,
    /// Refused until somebody does something.
    Held,
    /// Refused, although it may be there.
    TooManyParts,
    /// All tokens are forgotten, and the request is done.
    Forgotten,
}

const FAULTS: [Fault; 14] = [
    Fault::None,
    Fault::NotSent,
    Fault::Lost,
    Fault::Unanswered,
    Fault::Late,
    Fault::TokenWithoutPart,
    Fault::TableAlone,
    Fault::FirstRollupAlone,
    Fault::TableLost,
    Fault::TableForgotten,
    Fault::SomeRows,
    Fault::Held,
    Fault::TooManyParts,
    Fault::Forgotten,
];

/// As many rows as are in each place, and the tokens that each knows.
#[derive(Clone, Debug, Default)]
struct Store {
    /// The table, then the rollups.
    places: Vec<u64>,
    tokens: BTreeSet<(usize, String)>,
    late: Vec<Step>,
    /// The rows are such that none is ever taken.
    refuses: bool,
}

impl Store {
    fn new(rollups: usize) -> Self {
        Self { places: vec![0; rollups + 1], ..Self::default() }
    }

    /// The engine shows a block to the rollups even if the table knew its token (26.7: seen).
    fn insert(&mut self, token: &str, places: std::ops::Range<usize>) {
        for place in places {
            if self.tokens.insert((place, token.to_owned())) {
                self.places[place] += ROWS;
            }
        }
    }

    fn execute(&mut self, step: Step) {
        match step {
            Step::Send { token, .. } => self.insert(&format!("{token}"), 0..self.places.len()),
            Step::Repair { rollup, token, .. } if self.places[0] > 0 => {
                self.insert(&format!("repair {token}"), rollup + 1..rollup + 2);
            }
            Step::Restore { .. } => self.places[0] += ROWS,
            Step::Remove => self.places[0] = 0,
            _ => {}
        }
    }

    fn answer(&mut self, step: Step, fault: Fault) -> Answer {
        let all = self.places.len();
        match step {
            Step::Send { .. } if self.refuses => return Answer::Failed(Class::Rows),
            Step::Pause { .. } => return Answer::Done,
            Step::Kill => {
                for step in std::mem::take(&mut self.late) {
                    self.execute(step);
                }
            }
            Step::Ask if matches!(fault, Fault::None | Fault::Late | Fault::Forgotten) => {
                return Answer::Counted(self.places.clone());
            }
            _ => {}
        }
        if let (Step::Send { token, .. }, true) = (step, all > 1) {
            let token = token.to_string();
            match fault {
                Fault::TableAlone => self.insert(&token, 0..1),
                Fault::FirstRollupAlone => self.insert(&token, 0..2),
                _ => {}
            }
        }
        if let Step::Send { token, .. } = step {
            match fault {
                Fault::TokenWithoutPart => {
                    self.tokens.insert((0, token.to_string()));
                }
                Fault::TableLost | Fault::TableForgotten => {
                    self.execute(step);
                    self.places[0] = 0;
                    if matches!(fault, Fault::TableForgotten) {
                        self.tokens.retain(|(place, _)| *place != 0);
                    }
                }
                Fault::SomeRows if self.places[0] == 0 => self.places[0] = 3,
                _ => {}
            }
        }
        match fault {
            Fault::Forgotten => self.tokens.clear(),
            Fault::Late => {
                self.late.push(step);
                return Answer::Failed(Class::Transient);
            }
            _ => {}
        }
        match fault {
            Fault::None | Fault::Forgotten => {
                self.execute(step);
                Answer::Done
            }
            Fault::Unanswered => {
                self.execute(step);
                Answer::Failed(Class::Transient)
            }
            Fault::NotSent => Answer::Failed(Class::NotSent),
            Fault::Held => Answer::Failed(Class::Held),
            _ => Answer::Failed(Class::Transient),
        }
    }

    /// Runs a batch to its end; the faults come first, then none.
    fn run(&mut self, in_doubt: bool, faults: &[Fault]) -> End {
        let mut protocol = Protocol::new(ROWS, self.places.len() - 1, in_doubt);
        let mut faults = faults.iter().copied();
        for _ in 0..MOST_STEPS {
            let step = protocol.step();
            if let Step::End(end) = step {
                return end;
            }
            let fault = match step {
                Step::Pause { .. } => Fault::None,
                _ => faults.next().unwrap_or(Fault::None),
            };
            let answer = self.answer(step, fault);
            protocol.answer(answer);
        }
        panic!("no end after {MOST_STEPS} steps: {protocol:?}, {self:?}");
    }

    fn is_exact(&self) -> bool {
        self.places.iter().all(|rows| *rows == ROWS)
    }
}

fn fault() -> impl Strategy<Value = Fault> {
    proptest::sample::select(FAULTS.as_slice())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Whatever happens, an acknowledged batch is in each place exactly once.
    #[test]
    fn acknowledged_is_exactly_once(
        rollups in 0_usize..4,
        in_doubt in any::<bool>(),
        before in 0_u8..3,
        faults in prop::collection::vec(fault(), 0..24),
    ) {
        let mut store = Store::new(rollups);
        if in_doubt {
            // The agent before had sent it, or its token alone had arrived, or nothing.
            match before {
                0 => store.execute(Step::Send { token: 0, attempt: 1 }),
                1 => { store.tokens.insert((0, "0".into())); }
                _ => {}
            }
        }
        match store.run(in_doubt, &faults) {
            End::Acknowledged { .. } => prop_assert!(store.is_exact(), "{store:?}"),
            // Only what loses rows again and again may do this.
            End::Stuck(Stuck::Vanishes) => {
                let losses = faults.iter().filter(|fault| matches!(
                    fault,
                    Fault::TokenWithoutPart | Fault::TableLost | Fault::TableForgotten
                        | Fault::SomeRows
                ));
                prop_assert!(losses.count() >= MOST_TOKENS as usize, "{store:?}");
            }
            End::Stuck(Stuck::Partial) | End::Refused => prop_assert!(false, "{store:?}"),
        }
    }

    /// A batch that the store never takes is refused, and nothing of it is there.
    #[test]
    fn refused_is_nowhere(
        rollups in 0_usize..4,
        in_doubt in any::<bool>(),
        faults in prop::collection::vec(fault(), 0..24),
    ) {
        let mut store = Store { refuses: true, ..Store::new(rollups) };
        prop_assert_eq!(store.run(in_doubt, &faults), End::Refused);
        prop_assert!(store.places.iter().all(|rows| *rows == 0), "{:?}", store);
    }

    /// One commit whose answer was lost is asked for, not sent again.
    #[test]
    fn what_is_there_is_not_sent_again(rollups in 0_usize..4) {
        let mut store = Store::new(rollups);
        store.execute(Step::Send { token: 0, attempt: 1 });
        store.tokens.clear();
        prop_assert_eq!(store.run(true, &[]), End::Acknowledged { doubted: true });
        prop_assert!(store.is_exact(), "{:?}", store);
    }
}

#[test]
fn a_first_try_that_succeeds_asks_nothing() {
    let mut protocol = Protocol::new(ROWS, 2, false);
    assert_eq!(protocol.step(), Step::Send { token: 0, attempt: 1 });
    protocol.answer(Answer::Failed(Class::NotSent));
    assert_eq!(protocol.step(), Step::Pause { held: false });
    protocol.answer(Answer::Done);
    protocol.answer(Answer::Done);
    assert_eq!(protocol.step(), Step::End(End::Acknowledged { doubted: false }));
}

#[test]
fn a_rollup_with_other_rows_is_left_to_people() {
    let mut store = Store::new(1);
    store.places = vec![0, 3];
    assert_eq!(store.run(true, &[]), End::Stuck(Stuck::Partial));
    assert_eq!(store.places, [0, 3], "nothing was done to it");
}
