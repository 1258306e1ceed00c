//! What happens when there is no room; memory alone; the order; the end.

use super::*;
use crate::spool::contents::LossReason;
use crate::spool::error::SpoolError;
use crate::spool::writer::Kept;

/// Three segments of one batch each, on disk.
fn small(full: Full) -> SpoolSettings {
    let max_octets = 3 * (12 << 10) + 3 * 3000 + 2000;
    SpoolSettings { full, max_octets, memory_octets: 4000, ..settings(Fsync::Never) }
}

#[test]
fn the_oldest_make_room_but_never_one_that_is_being_sent() {
    let model = Model::default();
    let mut fixture = Fixture::open(&model, &small(Full::DropOldest));
    for number in 0..3 {
        let appended = fixture.writer().append(batch(number, 3000));
        assert_eq!((appended.kept, appended.lost.is_empty()), (Some(Kept::Disk), true));
    }
    let first = fixture.next().expect("it waits");
    let appended = fixture.writer().append(batch(3, 3000));
    assert_eq!(appended.kept, Some(Kept::Disk));
    assert_eq!(appended.lost.of(LossReason::FullOldest), contents(0b10));
    assert_eq!(lost_bits(&appended.lost), 0b10);
    assert_eq!(handed_bits(&fixture.drain()), 0b1100);
    assert_eq!(handed_bits([&first]), 1);
    first.acknowledge();
    assert!(fixture.shared.figures().disk_octets <= small(Full::Block).max_octets);
    assert_eq!(fixture.shared.figures().lost.total(), contents(0b10));
}

#[test]
fn when_all_are_being_sent_the_newest_is_dropped() {
    let model = Model::default();
    let mut fixture = Fixture::open(&model, &small(Full::DropOldest));
    for number in 0..3 {
        drop(fixture.writer().append(batch(number, 3000)));
    }
    let out = fixture.drain();
    let appended = fixture.writer().append(batch(3, 3000));
    assert_eq!(appended.kept, None);
    assert_eq!(appended.lost.of(LossReason::FullNewest), contents(0b1000));
    assert_eq!(handed_bits(&out), 0b111);
}

#[test]
fn the_newest_is_dropped_if_so_configured() {
    let model = Model::default();
    let mut fixture = Fixture::open(&model, &small(Full::DropNewest));
    for number in 0..5 {
        let appended = fixture.writer().append(batch(number, 3000));
        assert_eq!(appended.kept.is_some(), number < 3);
        assert_eq!(appended.lost.of(LossReason::FullNewest).batches, u64::from(number >= 3));
    }
    assert_eq!(handed_bits(&fixture.drain()), 0b111);
    assert_eq!(lost_bits(&fixture.shared.figures().lost), 0b11000);
}

/// Of `batch` every third is of the table `ledger`.
#[test]
fn batches_of_the_ledger_that_make_room_are_handed_back() {
    for full in [Full::DropOldest, Full::DropNewest] {
        for on_disk in [true, false] {
            let model = Model::default();
            let settings = SpoolSettings { memory_octets: 7000, ..small(full) };
            let files: Arc<dyn FileSystem> = Arc::new(model.clone());
            let mut fixture = Fixture::of(on_disk.then_some(files), &settings);
            let mut handed_back = Vec::new();
            for number in 0..12 {
                handed_back.extend(fixture.writer().append(batch(number, 3000)).books);
            }
            let kept = handed_bits(&fixture.drain());
            let lost = 0xfff & !kept;
            let of_ledger = (0..12).filter(|number| number % 3 == 1 && lost & (1 << number) != 0);
            let expected: Vec<_> = of_ledger.map(|number| batch(number, 3000)).collect();
            assert!(expected.len() >= 2, "{lost:b}");
            assert_eq!(handed_back, expected);
        }
    }
}

#[test]
fn a_writer_that_blocks_goes_on_when_there_is_room() {
    let model = Model::default();
    let mut fixture = Fixture::open(&model, &small(Full::Block));
    for number in 0..3 {
        drop(fixture.writer().append(batch(number, 3000)));
    }
    let mut writer = fixture.writer.take().expect("there");
    let waiting = std::thread::spawn(move || writer.append(batch(3, 3000)));
    for _ in 0..3 {
        fixture.next().expect("it waits").acknowledge();
    }
    let appended = waiting.join().expect("no panic");
    assert_eq!((appended.kept, appended.lost.is_empty()), (Some(Kept::Disk), true));
    assert_eq!(handed_bits(&fixture.drain()), 0b1000);
}

#[test]
fn a_writer_that_blocks_ends_with_the_agent_or_the_reader() {
    for stop in [true, false] {
        let model = Model::default();
        let mut fixture = Fixture::open(&model, &small(Full::Block));
        for number in 0..3 {
            drop(fixture.writer().append(batch(number, 3000)));
        }
        let mut writer = fixture.writer.take().expect("there");
        let waiting = std::thread::spawn(move || writer.append(batch(3, 3000)));
        if stop {
            fixture.stop.send(true).expect("it listens");
        } else {
            drop(fixture.reader);
        }
        let appended = waiting.join().expect("no panic");
        assert_eq!(appended.kept, None);
        assert_eq!(appended.lost.of(LossReason::FullNewest), contents(0b1000));
    }
}

#[test]
fn a_full_disk_is_memory_first_and_then_the_policy() {
    let model = Model::default();
    let mut fixture =
        Fixture::open(&model, &SpoolSettings { max_octets: 1 << 30, ..small(Full::DropNewest) });
    drop(fixture.writer().append(batch(0, 3000)));
    model.set_capacity(Some(20 << 10));
    assert_eq!(fixture.writer().append(batch(1, 3000)).kept, Some(Kept::Memory));
    let appended = fixture.writer().append(batch(2, 3000));
    assert_eq!(appended.kept, None);
    assert_eq!(appended.lost.of(LossReason::FullNewest), contents(0b100));
    model.set_capacity(None);
    assert_eq!(fixture.writer().append(batch(3, 3000)).kept, Some(Kept::Disk));
    assert_eq!(fixture.shared.figures().only_in_memory, 0, "it went to the disk, too");
    assert_eq!(handed_bits(&fixture.drain()), 0b1011);
}

#[test]
fn a_failing_disk_drops_by_its_own_reason() {
    let model = Model::default();
    let mut fixture = Fixture::open(&model, &small(Full::DropOldest));
    model.set_broken(true);
    assert_eq!(fixture.writer().append(batch(0, 3000)).kept, Some(Kept::Memory));
    let appended = fixture.writer().append(batch(1, 3000));
    assert_eq!(appended.kept, Some(Kept::Memory));
    assert_eq!(appended.lost.of(LossReason::Error), contents(0b1));
}

#[test]
fn memory_alone_is_bounded_and_what_is_left_is_counted() {
    for (full, kept, lost) in [(Full::DropOldest, 0b110, 0b1), (Full::DropNewest, 0b11, 0b100)] {
        let settings = SpoolSettings { dir: None, memory_octets: 7000, ..small(full) };
        let mut fixture = Fixture::of(None, &settings);
        let mut losses = Losses::default();
        for number in 0..3 {
            losses.merge(&fixture.writer().append(batch(number, 3000)).lost);
        }
        assert_eq!(lost_bits(&losses), lost);
        assert_eq!(fixture.shared.figures().memory_octets, 6000);
        let mut out = fixture.drain();
        assert_eq!(handed_bits(&out), kept);
        out.remove(0).acknowledge();
        drop(out);
        let ended = fixture.reader.finish();
        let left = kept & (kept - 1);
        assert_eq!(ended.of(LossReason::Undelivered), contents(left));
    }
}

#[test]
fn a_batch_that_is_larger_than_the_memory_is_taken_alone() {
    let mut fixture = Fixture::of(None, &SpoolSettings { dir: None, ..small(Full::DropOldest) });
    assert_eq!(fixture.writer().append(batch(0, 100_000)).kept, Some(Kept::Memory));
    fixture.next().expect("it waits").acknowledge();
    assert_eq!(fixture.shared.figures().memory_octets, 0);
}

#[test]
fn a_batch_that_is_larger_than_the_spool_costs_no_other() {
    for full in Full::ALL {
        let model = Model::default();
        let mut fixture = Fixture::open(&model, &small(full));
        drop(fixture.writer().append(batch(0, 3000)));
        // One may be in memory, if it is alone there; the first is on disk.
        let appended = fixture.writer().append(batch(1, 100_000));
        assert_eq!((appended.kept, appended.lost.is_empty()), (Some(Kept::Memory), true));
        let appended = fixture.writer().append(batch(2, 100_000));
        assert_eq!(appended.kept, None);
        assert_eq!(appended.lost.of(LossReason::FullNewest), contents(0b100));
        assert_eq!(handed_bits(&fixture.drain()), 0b11);
    }
}

#[test]
fn order_and_memory_in_a_long_outage() {
    let model = Model::default();
    let mut fixture =
        Fixture::open(&model, &SpoolSettings { memory_octets: 10_000, ..settings(Fsync::Never) });
    for number in 0..40 {
        drop(fixture.writer().append(batch(number, 3000)));
    }
    let figures = fixture.shared.figures();
    assert_eq!((figures.batches, figures.memory_octets), (40, 9000));
    assert_eq!(figures.oldest_exported_at, Some(1_800_000_000));
    for number in 0..40 {
        let pending = fixture.next().expect("it waits");
        assert_eq!((pending.batch.rows, pending.in_doubt), (number + 1, false));
        pending.acknowledge();
    }
    let figures = fixture.shared.figures();
    assert_eq!((figures.batches, figures.rows, figures.memory_octets), (0, 0, 0));
    assert_eq!((figures.acknowledged, figures.oldest_exported_at), (40, None));
    assert_eq!(model.names().len(), 2, "the segment that is written to: {:?}", model.names());
}

#[test]
fn a_reader_ends_when_the_writer_has_and_all_was_handed_out() {
    let model = Model::default();
    let mut fixture = Fixture::open(&model, &settings(Fsync::Never));
    drop(fixture.writer().append(batch(0, 10)));
    fixture.writer = None;
    let Fixture { mut reader, runtime, shared, .. } = fixture;
    let pending = runtime.block_on(reader.next()).expect("it waits");
    assert!(runtime.block_on(reader.next()).is_none());
    pending.quarantined();
    assert_eq!(shared.figures().quarantined, 1);
    assert!(reader.finish().is_empty());
}

#[test]
fn a_reader_waits_for_the_writer_without_being_asked_again() {
    let model = Model::default();
    let mut fixture = Fixture::open(&model, &settings(Fsync::Never));
    let mut writer = fixture.writer.take().expect("there");
    let writing = std::thread::spawn(move || {
        for number in 0..20 {
            drop(writer.append(batch(number, 100)));
        }
    });
    let Fixture { mut reader, runtime, .. } = fixture;
    let mut handed = Vec::new();
    while let Some(pending) = runtime.block_on(reader.next()) {
        handed.push(pending);
    }
    writing.join().expect("no panic");
    assert_eq!(handed_bits(&handed), (1 << 20) - 1);
}

#[test]
fn a_second_agent_is_refused() {
    let model = Model::default();
    let fixture = Fixture::open(&model, &settings(Fsync::Never));
    let files: Arc<dyn FileSystem> = Arc::new(model.clone());
    let error = prepare(&settings(Fsync::Never), Some(files), &[]).expect_err("it is locked");
    assert!(matches!(error, SpoolError::Locked { .. }), "{error}");
    drop(fixture);
    drop(Fixture::open(&model, &settings(Fsync::Never)));
}

#[test]
fn a_batch_can_be_looked_at_wherever_it_is() {
    let model = Model::default();
    let mut fixture =
        Fixture::open(&model, &SpoolSettings { memory_octets: 3500, ..settings(Fsync::Never) });
    for number in 0..4 {
        drop(fixture.writer().append(batch(number, 3000)));
    }
    let mut seen = Vec::new();
    fixture.reader.status().visit(|batch| {
        seen.push(batch.rows);
        seen.len() < 3
    });
    assert_eq!(seen, [1, 2, 3]);
    assert!(super::super::SpoolStatus::default().figures().is_none());
}

/// Whoever gave the store up wakes a writer that waits for room, which nobody will make.
#[test]
fn a_writer_does_not_wait_for_a_reader_that_has_given_up() {
    let settings = SpoolSettings {
        dir: None,
        memory_octets: 1000,
        full: Full::Block,
        ..settings(Fsync::Never)
    };
    let mut fixture = Fixture::of(None, &settings);
    fixture.stop.send(true).expect("it listens");
    let waits = Waits { stopping: fixture.stop.subscribe(), patience: Duration::MAX };
    fixture.writer = Some(SpoolWriter::new(&fixture.shared, waits, None).expect("a timer"));
    assert!(fixture.writer().append(batch(0, 600)).lost.is_empty());
    drop(fixture.next());
    fixture.reader.close();
    assert!(fixture.writer().is_abandoned());
    let appended = fixture.writer().append(batch(1, 600));
    assert_eq!(appended.kept, None);
    assert_eq!(lost_bits(&appended.lost), 0b10);
}

/// The last books come when the rest was counted as kept: it stays, whatever the policy.
#[test]
fn the_last_batch_takes_no_room_from_others() {
    let settings = SpoolSettings {
        dir: None,
        memory_octets: 1000,
        full: Full::DropOldest,
        ..settings(Fsync::Never)
    };
    let mut fixture = Fixture::of(None, &settings);
    assert!(fixture.writer().append(batch(0, 600)).lost.is_empty());
    let appended = fixture.writer().append_last(batch(1, 600));
    assert_eq!(appended.kept, None);
    assert_eq!(lost_bits(&appended.lost), 0b10);
    assert_eq!(handed_bits(&fixture.drain()), 0b1);
}

/// Of a batch that was split some parts may be stored when the rest is given up.
#[test]
fn only_the_rest_of_a_batch_is_lost() {
    let mut fixture = Fixture::of(None, &SpoolSettings { dir: None, ..settings(Fsync::Never) });
    assert!(fixture.writer().append(batch(3, 600)).lost.is_empty());
    let pending = fixture.next().expect("it waits");
    pending.lost(&contents(0b1));
    assert_eq!(lost_bits(&fixture.reader.losses()), 0b1);
    assert!(fixture.reader.status().contents().is_empty());
}
