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
    /// The table has it, and the rollups get it later.
    LateRollups,
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

const FAULTS: [Fault; 15] = [
    Fault::None,
    Fault::NotSent,
    Fault::Lost,
    Fault::Unanswered,
    Fault::Late,
    Fault::LateRollups,
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

/// Replicas of the shard.
const REPLICAS: usize = 3;

/// One committed part; a replica that is behind has not fetched it yet.
#[derive(Clone, Debug)]
struct Part {
    rows: u64,
    seen: [bool; REPLICAS],
}

/// How requests find their replica.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// [`Step::Kill`] reaches all replicas, not only one.
    kills_everywhere: bool,
    /// What follows a [`Step::Sync`] goes to the same replica.
    holds: bool,
}

/// As `Course` does it.
const COURSE: Way = Way { kills_everywhere: true, holds: true };

/// The parts of the table and the rollups, and their tokens: a log that all replicas share.
#[derive(Clone, Debug)]
struct Store {
    parts: Vec<Vec<Part>>,
    tokens: BTreeSet<(usize, String)>,
    /// Requests that still run, each on its replica, and whether only the rollups are left to do.
    late: Vec<(Step, usize, bool)>,
    /// No row is ever taken.
    refuses: bool,
    way: Way,
    /// The replicas that requests choose, over and over.
    picks: Vec<usize>,
    picked: usize,
    at: usize,
    /// What a replica gets at once of the others' parts, by place; the rest when it is synced.
    lags: Vec<bool>,
}

impl Store {
    fn new(rollups: usize) -> Self {
        Self {
            parts: vec![Vec::new(); rollups + 1],
            tokens: BTreeSet::new(),
            late: Vec::new(),
            refuses: false,
            way: COURSE,
            picks: vec![0],
            picked: 0,
            at: 0,
            lags: vec![false],
        }
    }

    /// What the replicas hold when they agree.
    fn places(&self) -> Vec<u64> {
        self.parts.iter().map(|parts| parts.iter().map(|part| part.rows).sum()).collect()
    }

    fn counts(&self, replica: usize) -> Vec<u64> {
        let rows = |part: &Part| if part.seen[replica] { part.rows } else { 0 };
        self.parts.iter().map(|parts| parts.iter().map(rows).sum()).collect()
    }

    fn commit(&mut self, place: usize, rows: u64, at: usize) {
        let lags = |replica: usize| self.lags[(replica * 5 + place) % self.lags.len()];
        let seen = std::array::from_fn(|replica| replica == at || !lags(replica));
        self.parts[place].push(Part { rows, seen });
    }

    /// The engine shows a block to the rollups even if the table knew its token (26.7: seen).
    fn insert(&mut self, token: &str, places: std::ops::Range<usize>, at: usize) {
        for place in places {
            if self.tokens.insert((place, token.to_owned())) {
                self.commit(place, ROWS, at);
            }
        }
    }

    fn execute(&mut self, step: Step, at: usize) {
        match step {
            Step::Send { token, .. } => self.insert(&format!("{token}"), 0..self.parts.len(), at),
            Step::Repair { rollup, token, .. } if self.counts(at)[0] > 0 => {
                self.insert(&format!("repair {token}"), rollup + 1..rollup + 2, at);
            }
            Step::Restore { .. } => self.commit(0, ROWS, at),
            Step::Remove => self.parts[0].clear(),
            Step::Sync => self.parts.iter_mut().flatten().for_each(|part| part.seen[at] = true),
            _ => {}
        }
    }

    /// What still runs on these replicas comes to its end.
    fn end_late(&mut self, here: impl Fn(usize) -> bool) {
        let (done, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.late).into_iter().partition(|run| here(run.1));
        self.late = left;
        for (step, at, rollups_only) in done {
            if let Step::Send { token, .. } = step {
                let first = usize::from(rollups_only);
                self.insert(&token.to_string(), first..self.parts.len(), at);
            } else {
                self.execute(step, at);
            }
        }
    }

    fn choose(&mut self, step: Step) {
        if !self.way.holds || matches!(step, Step::Send { .. } | Step::Kill | Step::Sync) {
            self.at = self.picks[self.picked % self.picks.len()];
            self.picked += 1;
        }
    }

    fn answer(&mut self, step: Step, fault: Fault) -> Answer {
        let all = self.parts.len();
        if !matches!(step, Step::Pause { .. }) {
            self.choose(step);
        }
        let at = self.at;
        match step {
            Step::Send { .. } if self.refuses => return Answer::Failed(Class::Rows),
            Step::Pause { .. } => return Answer::Done,
            Step::Kill if matches!(fault, Fault::None | Fault::Unanswered | Fault::Forgotten) => {
                let everywhere = self.way.kills_everywhere;
                self.end_late(|replica| everywhere || replica == at);
            }
            Step::Repair { .. } | Step::Restore { .. } if matches!(fault, Fault::None) => {
                // What no kill has reached goes on meanwhile.
                self.execute(step, at);
                self.end_late(|_| true);
                return Answer::Done;
            }
            Step::Ask if matches!(fault, Fault::None | Fault::Late | Fault::Forgotten) => {
                return Answer::Counted(self.counts(at));
            }
            _ => {}
        }
        if let (Step::Send { token, .. }, true) = (step, all > 1) {
            let token = token.to_string();
            match fault {
                Fault::TableAlone => self.insert(&token, 0..1, at),
                Fault::FirstRollupAlone => self.insert(&token, 0..2, at),
                _ => {}
            }
        }
        if let Step::Send { token, .. } = step {
            match fault {
                Fault::TokenWithoutPart => {
                    self.tokens.insert((0, token.to_string()));
                }
                Fault::TableLost | Fault::TableForgotten => {
                    self.execute(step, at);
                    self.parts[0].clear();
                    if matches!(fault, Fault::TableForgotten) {
                        self.tokens.retain(|(place, _)| *place != 0);
                    }
                }
                Fault::SomeRows if self.parts[0].is_empty() => self.commit(0, 3, at),
                _ => {}
            }
        }
        match fault {
            Fault::Forgotten => self.tokens.clear(),
            Fault::Late => {
                if !matches!(step, Step::Kill | Step::Sync) {
                    self.late.push((step, at, false));
                }
                return Answer::Failed(Class::Transient);
            }
            Fault::LateRollups => {
                if let Step::Send { token, .. } = step {
                    self.insert(&token.to_string(), 0..1, at);
                    self.late.push((step, at, true));
                }
                return Answer::Failed(Class::Transient);
            }
            _ => {}
        }
        match fault {
            Fault::None | Fault::Forgotten => {
                self.execute(step, at);
                Answer::Done
            }
            Fault::Unanswered => {
                self.execute(step, at);
                Answer::Failed(Class::Transient)
            }
            Fault::NotSent => Answer::Failed(Class::NotSent),
            Fault::Held => Answer::Failed(Class::Held),
            _ => Answer::Failed(Class::Transient),
        }
    }

    /// Runs a batch to its end; the faults come first, then none.
    fn run(&mut self, in_doubt: bool, faults: &[Fault]) -> End {
        let mut protocol = Protocol::new(ROWS, self.parts.len() - 1, in_doubt);
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
        self.late.is_empty() && self.places().iter().all(|rows| *rows == ROWS)
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
        picks in prop::collection::vec(0..REPLICAS, 1..12),
        lags in prop::collection::vec(any::<bool>(), 1..16),
    ) {
        let mut store = Store { picks, lags, ..Store::new(rollups) };
        if in_doubt {
            // The agent before had sent it, or its token alone had arrived, or nothing.
            match before {
                0 => store.execute(Step::Send { token: 0, attempt: 1 }, 0),
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
        prop_assert!(store.places().iter().all(|rows| *rows == 0), "{:?}", store);
    }

    /// One commit whose answer was lost is asked for, not sent again.
    #[test]
    fn what_is_there_is_not_sent_again(rollups in 0_usize..4) {
        let mut store = Store::new(rollups);
        store.execute(Step::Send { token: 0, attempt: 1 }, 0);
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
    store.commit(1, 3, 0);
    assert_eq!(store.run(true, &[]), End::Stuck(Stuck::Partial));
    assert_eq!(store.places(), [0, 3], "nothing was done to it");
}

/// A store whose replicas get nothing of each other before they are synced.
fn lagging(way: Way, picks: &[usize]) -> Store {
    Store { way, picks: picks.to_vec(), lags: vec![true], ..Store::new(1) }
}

#[test]
fn a_replica_that_is_behind_makes_no_rows_twice() {
    for picks in [[0, 1, 1], [0, 1, 2], [0, 2, 1]] {
        let mut store = lagging(COURSE, &picks);
        let end = store.run(false, &[Fault::Unanswered]);
        assert_eq!(end, End::Acknowledged { doubted: true }, "{store:?}");
        assert!(store.is_exact(), "{store:?}");
    }
}

#[test]
fn a_kill_that_misses_a_replica_is_seen_as_rows_twice() {
    let runs = [Fault::LateRollups];
    let mut store = lagging(COURSE, &[0, 1, 1]);
    assert_eq!(store.run(false, &runs), End::Acknowledged { doubted: true });
    assert!(store.is_exact(), "{store:?}");
    let mut store = lagging(Way { kills_everywhere: false, ..COURSE }, &[0, 1, 1]);
    store.run(false, &runs);
    assert_eq!(store.places(), [ROWS, 2 * ROWS], "this model would see it");
}

#[test]
fn evidence_of_a_replica_that_was_not_synced_is_seen_as_rows_twice() {
    let mut store = lagging(Way { holds: false, ..COURSE }, &[0, 1, 1, 2]);
    // The third replica has the table, and lacks the rollup.
    store.lags = vec![true; 15];
    store.lags[2 * 5] = false;
    store.run(false, &[Fault::Unanswered]);
    assert_eq!(store.places(), [ROWS, 2 * ROWS], "this model would see it");
}
