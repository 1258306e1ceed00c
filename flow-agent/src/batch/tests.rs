//! What goes into a block comes out of it, whole, in halves and by look-up.

use std::collections::BTreeMap;
use std::sync::Arc;

use flow_common::{Count, Direction, Tunnel};
use proptest::prelude::*;
use uuid::Uuid;

use super::{DecodedFlows, MOST_ROWS, RowKey};
use crate::enrich::{BatchLabels, Country, Labels, Place, RowLabels};
use crate::frozen::{FrozenBatch, Table};
use crate::ledger::{Counts, Entry};
use crate::names::Names;
use crate::record::{FlowEndReason, FlowRecord, InitiatorBy};
use crate::services::service_of;

/// A record and what is known of it: country, system, hosts, unit and service.
type Row = (FlowRecord, [(u8, u32); 2], [u8; 2], u8, u8);

fn tunnel() -> impl Strategy<Value = Option<Box<Tunnel>>> {
    let some = (1..6u32, any::<u32>(), any::<[u8; 16]>(), any::<[u8; 16]>());
    let some = some.prop_map(|(kind, id, src, dst)| {
        Some(Box::new(Tunnel { kind, id, src: src.into(), dst: dst.into() }))
    });
    prop_oneof![3 => Just(None), 1 => some]
}

prop_compose! {
    fn record()(
        (start_ns, end_ns, rtt) in any::<(u64, u64, u64)>(),
        interface in 0..6u16,
        direction in 0..3u8,
        (src, dst) in any::<([u8; 16], [u8; 16])>(),
        (src_port, dst_port) in (any::<u16>(), prop_oneof![Just(443), Just(53), any::<u16>()]),
        protocol in prop_oneof![Just(6), Just(17), any::<u8>()],
        (icmp_type, icmp_code, dscp, min_ttl, max_ttl) in any::<(u8, u8, u8, u8, u8)>(),
        (vlan_id, inner_vlan_id) in any::<(u16, u16)>(),
        [packets, octets, reverse_packets, reverse_octets] in any::<[u32; 4]>(),
        (tcp_flags, reverse_tcp_flags) in any::<(u8, u8)>(),
        tunnel in tunnel(),
        (retransmits, sampling) in any::<(u32, u32)>(),
        (end_reason, initiator_by) in (1..6u8, 1..5u8),
    ) -> FlowRecord {
        FlowRecord {
            start_ns,
            end_ns,
            interface,
            direction: Direction::from_number(direction),
            src,
            dst,
            src_port,
            dst_port,
            protocol,
            icmp_type,
            icmp_code,
            vlan_id,
            inner_vlan_id,
            packets: packets.into(),
            octets: octets.into(),
            reverse_packets: reverse_packets.into(),
            reverse_octets: reverse_octets.into(),
            tcp_flags,
            reverse_tcp_flags,
            dscp,
            min_ttl,
            max_ttl,
            tunnel,
            handshake_rtt_ns: rtt,
            retransmits,
            end_reason: FlowEndReason::from_number(end_reason).expect("in range"),
            initiator_by: InitiatorBy::from_number(initiator_by).expect("in range"),
            sampling,
        }
    }
}

/// Up to so many rows; texts are drawn from 256 for each column, 0 is none.
fn rows(most: usize) -> impl Strategy<Value = Vec<Row>> {
    let places = [any::<(u8, u32)>(), any::<(u8, u32)>()];
    let row = (record(), places, any::<[u8; 2]>(), any::<u8>(), any::<u8>());
    prop::collection::vec(row, 1..most)
}

fn names() -> Names {
    // One has two numbers, as after a rename and back; 0 and 5 are nobody's.
    Names::new("host-ü", &["eth0", "wlan0", "eth0", "bond0.17"])
}

fn labels(rows: &[Row], has_services: bool) -> BatchLabels {
    let mut labels = BatchLabels::with_capacity(rows.len(), has_services);
    let text = |prefix: &str, number: u8, length: usize| -> Arc<str> {
        let text = format!("{prefix}-{number}{}", "x".repeat(length));
        if number == 0 { "".into() } else { text.into() }
    };
    for (_, [src, dst], hosts, unit, service) in rows {
        let place = |(country, asn): (u8, u32)| {
            let letter = |number: u8| char::from(b'A' + number % 26);
            let code: String = [letter(country), letter(country / 26)].iter().collect();
            let country = if country == 0 { Country::default() } else { Country::new(&code) };
            Place { country, asn }
        };
        // Some are so long that their length takes two octets.
        let hosts = hosts.map(|host| labels.text(&text("host", host, usize::from(host))));
        let label = Labels {
            src: place(*src),
            dst: place(*dst),
            src_host: hosts[0],
            dst_host: hosts[1],
            unit: labels.text(&text("unit", *unit, 0)),
            service: labels.text(&text("service", *service, 0)),
        };
        labels.push(label);
    }
    labels.freeze();
    labels
}

fn freeze(rows: &[Row], labels: &BatchLabels) -> FrozenBatch {
    let records: Vec<_> = rows.iter().map(|row| row.0.clone()).collect();
    FrozenBatch::of_flows(&records, labels, &names(), Uuid::now_v7(), 1_700_000_000)
}

/// A record without its number of the interface, and what else its row says.
fn told(
    record: &FlowRecord,
    labels: &RowLabels<'_>,
    names: &Names,
) -> (FlowRecord, String, String) {
    let service = labels.service.unwrap_or_else(|| service_of(record));
    let labels = RowLabels { service: Some(service), ..*labels };
    let interface = names.interface(record.interface).to_string();
    (FlowRecord { interface: 0, ..record.clone() }, interface, format!("{labels:?}"))
}

fn put_in(rows: &[Row], labels: &BatchLabels) -> Vec<(FlowRecord, String, String)> {
    let names = names();
    rows.iter().enumerate().map(|(at, row)| told(&row.0, &labels.row(at), &names)).collect()
}

fn taken_out(decoded: &DecodedFlows) -> Vec<(FlowRecord, String, String)> {
    let records = decoded.records.iter().enumerate();
    records.map(|(at, record)| told(record, &decoded.labels.row(at), &decoded.names)).collect()
}

fn counts<'a>(rows: impl IntoIterator<Item = &'a Row>) -> BTreeMap<Arc<str>, Count> {
    let mut counts: BTreeMap<Arc<str>, Count> = BTreeMap::new();
    for (record, ..) in rows {
        let count = counts.entry(names().interface(record.interface).clone()).or_default();
        count.add(record.total_packets(), record.total_octets());
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_block_has_what_was_put_in(rows in rows(700), has_services in any::<bool>()) {
        let labels = labels(&rows, has_services);
        let batch = freeze(&rows, &labels);
        let decoded = batch.records().expect("ours");
        prop_assert_eq!(taken_out(&decoded), put_in(&rows, &labels));
        prop_assert_eq!(&*decoded.names.exporter, "host-ü");
        prop_assert_eq!((decoded.id, decoded.exported_at), (batch.id, batch.exported_at));
        prop_assert_eq!(batch.rows as usize, rows.len());
        prop_assert_eq!(batch.counts.iter().cloned().collect::<BTreeMap<_, _>>(), counts(&rows));
        let ends: Vec<_> = batch.flow_ends().collect();
        prop_assert_eq!(ends, rows.iter().map(|row| row.0.end_ns).collect::<Vec<_>>());
    }

    #[test]
    fn halves_are_the_whole_under_other_ids(rows in rows(40)) {
        let labels = labels(&rows, true);
        let whole = freeze(&rows, &labels);
        let Some([first, second]) = whole.halves() else {
            prop_assert_eq!(rows.len(), 1);
            return Ok(());
        };
        let middle = first.rows as usize;
        let mut together = Vec::new();
        for (half, rows) in [(&first, &rows[..middle]), (&second, &rows[middle..])] {
            let decoded = half.records().expect("ours");
            prop_assert_eq!(decoded.id, half.id);
            prop_assert_eq!((half.table, half.exported_at), (whole.table, whole.exported_at));
            prop_assert_eq!(half.counts.iter().cloned().collect::<BTreeMap<_, _>>(), counts(rows));
            together.extend(taken_out(&decoded));
        }
        prop_assert_eq!(together, put_in(&rows, &labels));
        let mut parts = vec![first.clone(), second.clone()];
        while let Some(part) = parts.pop() {
            prop_assert!(part.id.to_string().starts_with(&whole.family()));
            prop_assert!(whole.has_part_in(&[part.id, whole.id].into()));
            prop_assert!(!part.has_part_in(&[part.id, whole.id].into()));
            let (of_first, of_second) = (first.has_part_in(&[part.id].into()), second.has_part_in(&[part.id].into()));
            prop_assert!(!(of_first && of_second));
            parts.extend(part.halves().into_iter().flatten());
        }
        prop_assert!(!whole.has_part_in(&[whole.id, Uuid::now_v7()].into()));
        prop_assert!(first.id != second.id && first.id != whole.id && second.id != whole.id);
    }

    #[test]
    fn look_up_finds_the_wanted_rows_and_no_others(rows in rows(60), most in 0..70usize) {
        let labels = labels(&rows, true);
        let batch = freeze(&rows, &labels);
        let wanted = |key: &RowKey| key.dst_port == 53 || key.protocol == 6;
        let found = batch.find(most, wanted).expect("ours");
        let expected = put_in(&rows, &labels).into_iter();
        let expected = expected.filter(|(record, ..)| wanted(&RowKey::from(record))).take(most);
        prop_assert_eq!(taken_out(&found), expected.collect::<Vec<_>>());
    }

    #[test]
    fn damaged_blocks_are_errors_and_nothing_worse(
        rows in rows(5),
        place in any::<prop::sample::Index>(),
        octet in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let mut batch = freeze(&rows, &labels(&rows, true));
        let mut octets = batch.block.to_vec();
        let place = place.index(octets.len());
        if cut {
            octets.truncate(place);
        } else {
            octets[place] = octet;
        }
        batch.block = octets.into();
        let read = batch.records();
        prop_assert!(!cut || read.is_err());
        // The rest must end, whatever it finds.
        let _ = (batch.flow_ends().count(), batch.halves(), batch.find(9, |_| true));
    }
}

#[test]
fn dictionaries_of_every_width_come_back() {
    for texts in [1, 256, 257, 65_536, 65_537] {
        let mut labels = BatchLabels::with_capacity(texts, true);
        for number in 0..texts {
            let unit = labels.text(&Arc::from(format!("{number}.service")));
            labels.push(Labels { unit, ..Labels::default() });
        }
        let records = vec![FlowRecord::example(1); texts];
        let batch = FrozenBatch::of_flows(&records, &labels, &names(), Uuid::now_v7(), 0);
        let decoded = batch.records().expect("ours").labels;
        for row in 0..texts {
            assert_eq!(decoded.row(row).unit, format!("{row}.service"));
        }
    }
}

#[test]
fn fewer_labels_than_records_leave_the_rest_unknown() {
    let rows: Vec<Row> = vec![(FlowRecord::example(1), [(1, 1); 2], [1; 2], 1, 1); 3];
    let labels = labels(&rows[..1], true);
    let batch = freeze(&rows, &labels);
    assert_eq!(taken_out(&batch.records().expect("ours")), put_in(&rows, &labels));
}

#[test]
fn a_block_of_another_table_has_no_records() {
    let counts = [((Arc::from("eth0"), Entry::Seen), Count::default())];
    let batch = FrozenBatch::of_ledger(&counts.into(), "host", Uuid::now_v7(), 7);
    assert_eq!((batch.table, batch.rows, batch.exported_at), (Table::Ledger, 1, 7));
    assert!(batch.records().is_err());
    assert_eq!(batch.flow_ends().count(), 0);
}

#[test]
fn the_largest_batch_stays_within_a_block() {
    const PARTS: usize = 64;
    let records = vec![FlowRecord::example(1); MOST_ROWS / PARTS];
    let labels = BatchLabels::default();
    let batch = FrozenBatch::of_flows(&records, &labels, &names(), Uuid::now_v7(), 0);
    let octets = PARTS * batch.block.len();
    assert!(octets <= super::MOST_OCTETS, "{octets} octets");
}

#[test]
fn what_the_ledger_counted_comes_back_and_what_is_damaged_does_not() {
    let line = |(number, entry): (u64, Entry)| {
        let interface = ["eth0", "blue/veth1", "(former)"][number as usize % 3];
        ((interface.into(), entry), Count { packets: number + 1, octets: u64::MAX - number })
    };
    let counts: Counts = (0..).zip(Entry::all()).map(line).collect();
    let batch = FrozenBatch::of_ledger(&counts, "host", Uuid::now_v7(), 7);
    assert_eq!(batch.ledger_counts().expect("its own"), counts);
    for length in 0..batch.block.len() {
        let cut = FrozenBatch { block: batch.block.slice(..length), ..batch.clone() };
        assert!(cut.ledger_counts().is_err(), "{length} octets");
    }
    let records = [FlowRecord::example(1)];
    let names = Names::new("host", &["eth0"]);
    let flows = FrozenBatch::of_flows(&records, &BatchLabels::default(), &names, batch.id, 7);
    assert!(flows.ledger_counts().is_err(), "of another table");
}
