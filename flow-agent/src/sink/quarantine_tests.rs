//! What a quarantine keeps, and what it notices.

use super::*;

fn batch(number: u8) -> FrozenBatch {
    FrozenBatch {
        id: Uuid::from_bytes([number; 16]),
        table: Table::Flows,
        exported_at: 7,
        rows: 2,
        counts: vec![("eth0".into(), Count { packets: 3, octets: 400 })],
        block: Bytes::from(vec![number, b'\n', 0, 255]),
    }
}

fn put(quarantine: &Quarantine, number: u8, now: u64) {
    let error = "Code: 469. Constraint \"c\" is\nviolated";
    quarantine
        .put(&batch(number), Reason::Refused, error, "http://db/flow", now)
        .expect("a writable folder");
}

#[test]
fn what_is_put_in_comes_out_until_it_is_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let quarantine = Quarantine::new(folder.path().join("deep/quarantine"));
    assert!(quarantine.list().expect("empty").0.is_empty(), "a missing folder is empty");
    put(&quarantine, 1, 20);
    put(&quarantine, 2, 10);
    put(&quarantine, 2, 10);
    let (cards, damaged) = quarantine.list().expect("readable");
    assert!(damaged.is_empty());
    assert_eq!(cards.iter().map(|card| card.at_ns).collect::<Vec<_>>(), [10, 20]);
    let (card, found) = quarantine.get(batch(1).id).expect("there");
    assert_eq!(found, batch(1));
    assert_eq!((card.reason, card.total().packets), (Reason::Refused, 3));
    let mode = quarantine.path(batch(1).id).metadata().expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "flows say who talks to whom");
    quarantine.remove(batch(1).id).expect("there");
    let error = quarantine.get(batch(1).id).expect_err("gone").to_string();
    assert!(error.contains("quarantine list"), "{error}");
}

#[test]
fn every_changed_octet_and_every_cut_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let quarantine = Quarantine::new(folder.path());
    put(&quarantine, 1, 20);
    let id = batch(1).id;
    let whole = fs::read(quarantine.path(id)).expect("there");
    for at in 0..whole.len() {
        let mut octets = whole.clone();
        octets[at] ^= 1;
        fs::write(quarantine.path(id), &octets).expect("ours");
        quarantine.get(id).expect_err("a changed octet");
        fs::write(quarantine.path(id), &whole[..at]).expect("ours");
        quarantine.get(id).expect_err("a cut file");
    }
    fs::write(quarantine.path(id), [&whole[..], b"x"].concat()).expect("ours");
    quarantine.get(id).expect_err("a longer file");
    fs::write(quarantine.path(id), whole).expect("ours");
    quarantine.get(id).expect("as it was written");
}
