//! Short writes, errors, full disks, failed syncs, kills and power cuts, at any operation.

use proptest::prelude::*;

use super::model::Fault;
use super::*;
use crate::spool::writer::Kept;

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Take,
    Acknowledge(usize),
    GiveBack(usize),
    Sync,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0usize..6000).prop_map(Step::Append),
        3 => Just(Step::Take),
        3 => any::<usize>().prop_map(Step::Acknowledge),
        1 => any::<usize>().prop_map(Step::GiveBack),
        1 => Just(Step::Sync),
    ];
    // Appended batches have 48 numbers.
    prop::collection::vec(step, 1..48)
}

fn faults() -> impl Strategy<Value = Vec<(u64, Fault)>> {
    let kinds = prop::sample::select(vec![Fault::Short, Fault::Broken, Fault::Liar, Fault::Full]);
    prop::collection::vec((0u64..300, kinds), 0..12)
}

#[derive(Default)]
struct Done {
    appended: u64,
    /// The spool said that the disk has it.
    stored: u64,
    /// It has it, somewhere.
    kept: u64,
    acknowledged: u64,
    /// The same, and one in which the machine died.
    settling: u64,
    /// The same, if the files say so.
    known_acknowledged: u64,
    lost: Losses,
}

/// Takes the steps, until the machine dies; what is out at the end is given back. What the
/// machine died in has no outcome.
fn walk(model: &Model, fixture: &mut Fixture, steps: &[Step]) -> Done {
    let (mut done, mut out, mut number) = (Done::default(), Vec::<Pending>::new(), 0);
    for step in steps {
        match step {
            Step::Append(octets) => {
                let bit = 1 << number;
                done.appended |= bit;
                let appended = fixture.writer().append(batch(number, *octets));
                if model.is_dead() {
                    break;
                }
                done.kept |= if appended.kept.is_some() { bit } else { 0 };
                done.stored |= if appended.kept == Some(Kept::Disk) { bit } else { 0 };
                done.lost.merge(&appended.lost);
                number += 1;
            }
            Step::Take => out.extend(fixture.next()),
            Step::Acknowledge(which) if !out.is_empty() => {
                let pending = out.swap_remove(which % out.len());
                let bit = handed_bits([&pending]);
                pending.acknowledge();
                done.settling |= bit;
                done.acknowledged |= if model.is_dead() { 0 } else { bit };
            }
            Step::GiveBack(which) if !out.is_empty() => {
                drop(out.swap_remove(which % out.len()));
            }
            Step::Acknowledge(_) | Step::GiveBack(_) => {}
            Step::Sync => fixture.shared.sync_all(),
        }
        if model.is_dead() {
            break;
        }
    }
    if fixture.shared.figures().note_errors > 0 {
        // The next agent cannot know of all that were acknowledged.
        done.known_acknowledged = 0;
    } else {
        done.known_acknowledged = done.acknowledged;
    }
    done
}

/// What the next agent is handed and told.
fn reopened(model: &Model, fsync: Fsync) -> (u64, u64) {
    let mut fixture = Fixture::open(model, &settings(fsync));
    let handed = fixture.drain();
    assert!(handed.iter().all(|pending| pending.in_doubt));
    let order: Vec<_> = handed.iter().map(|pending| pending.batch.id).collect();
    assert!(fixture.recovered.foreign.is_empty());
    let mut losses = fixture.recovered.lost.clone();
    losses.merge(&fixture.reader.losses());
    let (bits, lost) = (handed_bits(&handed), lost_bits(&losses));
    assert_eq!(bits & lost, 0, "handed out and lost");
    // Of the same agent, so in the order of their numbers, but for those that were held in
    // memory first or written anew.
    assert_eq!(order.len() as u32, bits.count_ones());
    (bits, lost)
}

const EVERY: [Fsync; 3] = Fsync::ALL;

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(500), max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_stored_outlives_any_power_cut(
        steps in steps(), faults in faults(), dies_at in 0u64..400, seed: u64,
    ) {
        let model = Model::default();
        let mut fixture = Fixture::open(&model, &settings(Fsync::Always));
        model.fail(faults);
        model.die_at(dies_at);
        let done = walk(&model, &mut fixture, &steps);
        prop_assert!(done.lost.is_empty(), "there was room for everything: {:?}", done.lost);
        let cut = model.after_power_cut(seed);
        let (handed, lost) = reopened(&cut, Fsync::Always);
        let owed = done.stored & !done.settling;
        prop_assert_eq!(owed & !handed, 0, "stored, and not there");
        prop_assert_eq!(handed & !done.appended, 0, "invented");
        let there = done.stored & !done.settling | done.known_acknowledged;
        prop_assert_eq!(lost & there, 0, "named as lost");
        prop_assert_eq!(lost & !done.appended, 0, "lost, and never there");
    }

    #[test]
    fn what_is_written_outlives_any_kill(
        steps in steps(), faults in faults(), policy in 0usize..3,
    ) {
        let model = Model::default();
        let mut fixture = Fixture::open(&model, &settings(EVERY[policy]));
        model.fail(faults);
        let done = walk(&model, &mut fixture, &steps);
        prop_assert!(done.lost.is_empty());
        let (handed, lost) = reopened(&model.after_kill(), EVERY[policy]);
        prop_assert_eq!(done.stored & !done.settling & !handed, 0, "written, and not there");
        prop_assert_eq!(handed & !done.appended, 0, "invented");
        let there = done.stored & !done.settling | done.known_acknowledged;
        prop_assert_eq!(lost & there, 0, "named as lost");
    }

    #[test]
    fn nothing_is_missing_after_an_orderly_end(
        steps in steps(), faults in faults(), policy in 0usize..3, broken: bool,
    ) {
        let model = Model::default();
        let mut fixture = Fixture::open(&model, &settings(EVERY[policy]));
        model.fail(faults);
        let done = walk(&model, &mut fixture, &steps);
        prop_assert_eq!(done.kept, done.appended, "there was room in memory");
        model.heal();
        model.set_broken(broken);
        fixture.writer = None;
        let Fixture { reader, shared, .. } = fixture;
        let ended = reader.finish();
        drop(shared);
        let undelivered = lost_bits(&ended);
        // A disk that fails to the end cannot tell the next agent what became of a batch.
        let told = if broken { 0 } else { undelivered | done.known_acknowledged };
        let (handed, lost) = reopened(&model.after_kill(), EVERY[policy]);
        let owed = done.kept & !done.acknowledged;
        prop_assert_eq!((handed | undelivered | lost) & owed, owed, "missing");
        prop_assert_eq!(lost & (done.stored & !done.acknowledged | told), 0, "named as lost");
        if !broken {
            prop_assert_eq!(undelivered, 0, "the disk worked at the end");
        }
    }

    #[test]
    fn a_power_cut_without_syncs_loses_what_it_takes_and_invents_nothing(
        steps in steps(), seed: u64,
    ) {
        let model = Model::default();
        let mut fixture = Fixture::open(&model, &settings(Fsync::Never));
        let done = walk(&model, &mut fixture, &steps);
        let (handed, lost) = reopened(&model.after_power_cut(seed), Fsync::Never);
        prop_assert_eq!((handed | lost) & !done.appended, 0, "invented");
        prop_assert_eq!(lost & handed, 0);
    }
}

#[test]
fn a_failed_sync_is_never_called_stored_and_what_it_had_is_written_anew() {
    // The operations of each append, by the model: which of them is the sync is found by trying.
    let mut failed = 0;
    for at in 0..12 {
        let model = Model::default();
        let mut fixture = Fixture::open(&model, &settings(Fsync::Always));
        assert_eq!(fixture.writer().append(batch(0, 100)).kept, Some(Kept::Disk));
        model.fail([(at, Fault::Liar)]);
        assert_eq!(fixture.writer().append(batch(1, 100)).kept, Some(Kept::Disk));
        failed += fixture.shared.figures().sync_errors;
        // Nothing survives but what was synced.
        for seed in 0..20 {
            assert_eq!(reopened(&model.after_power_cut(seed), Fsync::Always).0, 0b11);
        }
    }
    assert_eq!(failed, 1, "one of the operations is a sync");
}

#[test]
fn a_disk_that_only_fails_to_sync_stores_nothing_until_it_works_again() {
    let model = Model::default();
    let mut fixture = Fixture::open(&model, &settings(Fsync::Always));
    model.set_broken(true);
    for number in 0..3 {
        assert_eq!(fixture.writer().append(batch(number, 100)).kept, Some(Kept::Memory));
    }
    assert!(fixture.shared.figures().trouble.is_some());
    model.set_broken(false);
    assert_eq!(fixture.writer().append(batch(3, 100)).kept, Some(Kept::Disk));
    let figures = fixture.shared.figures();
    assert_eq!((figures.only_in_memory, figures.trouble), (0, None));
    assert_eq!(reopened(&model.after_power_cut(1), Fsync::Always), (0b1111, 0));
    assert_eq!(handed_bits(&fixture.drain()), 0b1111);
}

#[test]
fn the_interval_syncs_what_waits_and_nothing_else() {
    let model = Model::default();
    let mut fixture = Fixture::open(&model, &settings(Fsync::default()));
    drop(fixture.writer().append(batch(0, 100)));
    fixture.next().expect("it waits").acknowledge();
    fixture.shared.sync_all();
    assert_eq!(model.syncs(), 0, "the store was faster");
    drop(fixture.writer().append(batch(1, 100)));
    fixture.shared.sync_all();
    assert!(model.syncs() > 0);
    let syncs = model.syncs();
    fixture.shared.sync_all();
    assert_eq!(model.syncs(), syncs, "nothing new");
    // The note of the first is not synced before its segment: it may be doubtful once more.
    assert_eq!(reopened(&model.after_power_cut(0), Fsync::default()).0 & 0b10, 0b10);
}
