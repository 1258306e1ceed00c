//! Every changed octet, every cut, and files that are missing, twice there or none of ours.

use super::*;
use crate::spool::segment::{index_name, segment_name};

/// Three batches of which none is settled, in one segment.
fn three() -> Model {
    let model = Model::default();
    let mut fixture = Fixture::open(&model, &settings(Fsync::Always));
    for number in 0..3 {
        let appended = fixture.writer().append(batch(number, 40));
        assert!(appended.kept.is_some() && appended.lost.is_empty());
    }
    assert_eq!(model.names(), [index_name(0), segment_name(0)]);
    drop(fixture);
    model
}

/// What is handed out and what is lost, of a copy of these files.
fn opened(model: &Model) -> (u64, u64) {
    let mut fixture = Fixture::open(model, &settings(Fsync::Always));
    let handed = fixture.drain();
    let mut losses = fixture.recovered.lost.clone();
    losses.merge(&fixture.reader.losses());
    let (handed, lost) = (handed_bits(&handed), lost_bits(&losses));
    assert_eq!(handed & lost, 0, "handed out and lost");
    (handed, lost)
}

/// Opens with a file changed.
fn changed(model: &Model, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> (u64, u64) {
    let copy = model.after_kill();
    let mut data = copy.take(name).expect("there");
    change(&mut data);
    copy.set(name, data);
    opened(&copy)
}

#[test]
fn after_any_changed_octet_what_is_whole_is_handed_out_and_the_rest_is_known() {
    let model = three();
    for name in [segment_name(0), index_name(0)] {
        let length = model.get(&name).expect("there").len();
        for at in 0..length {
            // The space between the parts of a head is much alike.
            for bit in [1 << (at % 8), 0xff] {
                let (handed, lost) = changed(&model, &name, |data| data[at] ^= bit);
                assert_eq!(handed | lost, 0b111, "{name}, octet {at}");
                assert!(lost.count_ones() <= 1, "{name}, octet {at}: {lost:b} lost");
                assert!(name == segment_name(0) || lost == 0, "{name}, octet {at}");
            }
        }
    }
}

#[test]
fn after_any_cut_what_is_whole_is_handed_out_and_the_rest_is_known() {
    let model = three();
    for name in [segment_name(0), index_name(0)] {
        let length = model.get(&name).expect("there").len();
        for cut in 0..length {
            let (handed, lost) = changed(&model, &name, |data| data.truncate(cut));
            assert_eq!(handed | lost, 0b111, "{name} cut at {cut}");
            assert!(name == segment_name(0) || lost == 0, "{name} cut at {cut}");
        }
    }
}

#[test]
fn without_the_index_the_sums_still_know() {
    let model = three();
    model.take(&index_name(0));
    let name = segment_name(0);
    let length = model.get(&name).expect("there").len();
    for at in 0..length {
        let (handed, lost) = changed(&model, &name, |data| data[at] ^= 0x41);
        assert_eq!(handed | lost, 0b111, "octet {at}");
    }
    for cut in crate::spool::segment::RECORDS as usize..length {
        let (handed, lost) = changed(&model, &name, |data| data.truncate(cut));
        assert_eq!(handed | lost, 0b111, "cut at {cut}");
    }
}

#[test]
fn without_the_segment_the_index_knows() {
    let model = three();
    model.take(&segment_name(0));
    assert_eq!(opened(&model), (0, 0b111));
    // And it is told once.
    assert_eq!(opened(&model), (0, 0));
}

#[test]
fn a_loss_is_told_once_and_its_file_is_kept_for_a_person() {
    let model = three();
    let name = segment_name(0);
    let mut data = model.take(&name).expect("there");
    let last = data.len() - 1;
    data[last] ^= 1;
    model.set(&name, data);
    for told in [0b100, 0] {
        let (_, lost) = opened(&model);
        assert_eq!(lost, told);
    }
    let mut fixture = Fixture::open(&model, &settings(Fsync::Always));
    for pending in fixture.drain() {
        assert!(pending.in_doubt);
        pending.acknowledge();
    }
    assert_eq!(model.names(), ["00000000.index.damaged", "00000000.spool.damaged"]);
    assert!(fixture.shared.figures().damaged_octets > 12 << 10);
    assert_eq!(fixture.shared.figures().corrupt, 0, "it was told by another");
}

#[test]
fn copies_and_another_order_of_segments_and_records_change_nothing() {
    let model = Model::default();
    let mut fixture = Fixture::open(&model, &settings(Fsync::Always));
    for number in 0..6 {
        assert!(fixture.writer().append(batch(number, 3000)).kept.is_some());
    }
    drop(fixture);
    assert_eq!(model.names().len(), 12, "{:?}", model.names());
    // A copy under a later number, and two that changed their numbers, each without its index.
    let copy = model.get(&segment_name(1)).expect("there");
    model.set(&segment_name(9), copy);
    let (first, second) = (model.take(&segment_name(2)), model.take(&segment_name(3)));
    model.set(&segment_name(3), first.expect("there"));
    model.set(&segment_name(2), second.expect("there"));
    model.take(&index_name(2));
    model.take(&index_name(3));
    // And a record twice in its segment.
    let mut data = model.take(&segment_name(4)).expect("there");
    data.extend_from_within(crate::spool::segment::RECORDS as usize..);
    model.set(&segment_name(4), data);
    let mut fixture = Fixture::open(&model, &settings(Fsync::Always));
    assert!(fixture.recovered.lost.is_empty(), "{:?}", fixture.recovered.lost);
    assert_eq!(fixture.recovered.waiting, contents(0b11_1111));
    let handed = fixture.drain();
    assert_eq!(handed_bits(&handed), 0b11_1111);
    for pending in handed {
        pending.acknowledge();
    }
    assert!(model.names().is_empty(), "the copies are gone, too: {:?}", model.names());
}

#[test]
fn other_files_and_other_versions_are_left_alone_and_told() {
    let model = three();
    let head = |version: u32| {
        let mut content = b"FLOWSPOL".to_vec();
        content.extend(version.to_le_bytes());
        content.extend(7u64.to_le_bytes());
        let mut file = crate::spool::codec::piece(*b"FHED", 0, &content);
        file.extend(b"what this agent cannot know");
        file
    };
    model.set("00000007.spool", head(2));
    model.set("notes.txt", b"mine".to_vec());
    model.set("1.spool", b"short".to_vec());
    model.set("lock", Vec::new());
    let mut fixture = Fixture::open(&model, &settings(Fsync::Always));
    assert_eq!(fixture.recovered.foreign, ["1.spool", "notes.txt", "00000007.spool"]);
    for pending in fixture.drain() {
        pending.acknowledge();
    }
    assert!(fixture.writer().append(batch(3, 10)).kept.is_some());
    let left = ["00000007.spool", "00000008.index", "00000008.spool", "1.spool", "lock"];
    assert_eq!(model.names()[..5], left);
    assert_eq!(model.get("00000007.spool"), Some(head(2)));
}

#[test]
fn a_file_of_noise_is_moved_aside() {
    let model = three();
    let noise: Vec<u8> =
        (0..40_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    model.set(&segment_name(5), noise.clone());
    let fixture = Fixture::open(&model, &settings(Fsync::Always));
    assert_eq!(fixture.recovered.waiting, contents(0b111));
    assert_eq!(model.get("00000005.spool.damaged"), Some(noise));
}

#[test]
fn what_could_not_be_listed_is_never_written_over() {
    let model = three();
    model.set_hidden(true);
    let mut fixture = Fixture::open(&model, &settings(Fsync::Always));
    assert!(fixture.recovered.waiting.is_empty());
    for number in 3..6 {
        assert!(fixture.writer().append(batch(number, 40)).kept.is_some());
    }
    drop(fixture);
    model.set_hidden(false);
    assert_eq!(opened(&model), (0b11_1111, 0));
}

#[test]
fn interrupted_removals_are_finished() {
    let model = three();
    let data = model.take(&segment_name(0)).expect("there");
    model.set("00000000.spool.spent", data);
    let fixture = Fixture::open(&model, &settings(Fsync::Always));
    assert!(fixture.recovered.waiting.is_empty() && fixture.recovered.lost.is_empty());
    assert!(model.names().is_empty(), "{:?}", model.names());
}
