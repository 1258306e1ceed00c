//! Frozen blocks: refused, or read; and then the two halves have the same rows as the whole.

use flow_agent::frozen::{FrozenBatch, Table};
use uuid::Uuid;

/// See the module.
pub fn run(octets: &[u8]) {
    let batch = FrozenBatch {
        id: Uuid::from_u128((7 << 76) | (2 << 62) | 1),
        table: Table::Flows,
        exported_at: 1_800_000_000,
        rows: 1,
        counts: vec![],
        block: octets.to_vec().into(),
    };
    let ends = batch.flow_ends().count();
    let halves = batch.halves();
    let found = batch.find(3, |key| key.protocol == 6);
    let decoded = match batch.records() {
        Ok(decoded) => decoded,
        Err(problem) => {
            assert!(!problem.to_string().is_empty());
            return;
        }
    };
    assert_eq!(ends, decoded.records.len());
    let tcp = decoded.records.iter().filter(|record| record.protocol == 6);
    let tcp: Vec<_> = tcp.take(3).cloned().collect();
    assert_eq!(found.expect("all of it can be read").records, tcp);
    let Some(halves) = halves else { return };
    let mut records = Vec::new();
    for half in &halves {
        assert!(half.id != batch.id && half.exported_at == batch.exported_at);
        let half_of = half.records().expect("a half can be read like the whole");
        assert_eq!(half_of.records.len(), half.rows as usize);
        records.extend(half_of.records);
    }
    // Interfaces have other numbers in a half.
    let plain = |records: &[flow_agent::record::FlowRecord]| {
        let mut records = records.to_vec();
        for record in &mut records {
            record.interface = 0;
        }
        records
    };
    assert_eq!(plain(&records), plain(&decoded.records));
}
