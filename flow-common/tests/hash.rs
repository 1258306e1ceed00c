//! The flow hash spreads whatever alone differs between flows.

use flow_common::FlowKey;
use flow_common::hash::{flow_hash, keys_from};

const SETS: usize = 1 << 14;
const FLOWS: u32 = 60_000;

/// Sets used by 60,000 flows and the fullest of them; 3.7 flows a set on average.
fn spread(seed: u64, change: impl Fn(&mut FlowKey, u32)) -> (usize, u32) {
    let keys = keys_from(seed);
    let mut sets = vec![0u32; SETS];
    for flow in 0..FLOWS {
        let mut key = FlowKey {
            src: [10, 0, 0, 1].into(),
            dst: [10, 0, 0, 2].into(),
            src_port: 4000,
            dst_port: 443,
            interface: 1,
            protocol: 17,
            ..FlowKey::default()
        };
        change(&mut key, flow);
        sets[flow_hash(&key, key.src.is_mapped(), |i| keys[i]) as usize % SETS] += 1;
    }
    let used = sets.iter().filter(|flows| **flows > 0).count();
    (used, sets.into_iter().max().unwrap_or(0))
}

#[test]
fn every_field_alone_spreads_flows_over_the_sets() {
    type Change = fn(&mut FlowKey, u32);
    let changes: [(&str, Change); 10] = [
        ("source port", |key, flow| key.src_port = flow as u16),
        ("destination port", |key, flow| key.dst_port = flow as u16),
        ("destination port, source port 0", |key, flow| {
            key.src_port = 0;
            key.dst_port = flow as u16;
        }),
        ("both ports in steps of 256", |key, flow| {
            key.src_port = (flow << 8) as u16;
            key.dst_port = (flow & 0xff00) as u16;
        }),
        ("source", |key, flow| key.src = flow.to_be_bytes().into()),
        ("destination", |key, flow| key.dst = flow.to_be_bytes().into()),
        ("source network", |key, flow| key.src = flow.to_le_bytes().into()),
        ("IPv6 source network", |key, flow| key.src.0[0] = flow),
        ("IPv6 destination host", |key, flow| {
            key.src.0[0] = 1;
            key.dst.0[3] = flow.to_be();
        }),
        ("both ports", |key, flow| {
            key.src_port = flow as u16;
            key.dst_port = flow as u16;
        }),
    ];
    for seed in 1..20 {
        for (field, change) in changes {
            let (used, fullest) = spread(seed, change);
            // Random flows would use 97.4 % of the sets, the fullest with about 15.
            assert!(used > SETS * 8 / 10, "{field}, seed {seed}: {used} sets used");
            assert!(fullest < 24, "{field}, seed {seed}: {fullest} flows in one set");
        }
    }
}

#[test]
fn answers_differ_in_the_lowest_bits_only() {
    let keys = keys_from(3);
    let hash = |key: &FlowKey| flow_hash(key, key.src.is_mapped(), |i| keys[i]);
    for flow in 0..10_000u32 {
        for protocol in [1, 6, 17] {
            let question = FlowKey {
                src: flow.wrapping_mul(0x9e37_79b9).to_be_bytes().into(),
                dst: [10, 0, 0, 2].into(),
                src_port: if protocol == 1 { 0 } else { flow as u16 },
                dst_port: if protocol == 1 { 8 << 8 } else { 53 },
                protocol,
                direction: 1,
                ..FlowKey::default()
            };
            let answer = FlowKey {
                src: question.dst,
                dst: question.src,
                src_port: if protocol == 1 { 0 } else { question.dst_port },
                dst_port: question.src_port,
                direction: 2,
                ..question
            };
            assert_eq!(hash(&question) ^ hash(&answer), 3, "{question:?}");
        }
    }
}

#[test]
fn tags_interfaces_and_protocols_count() {
    let keys = keys_from(1);
    let key = FlowKey::default();
    let variants = [
        FlowKey { vlan_id: 1, ..key },
        FlowKey { inner_vlan_id: 1, ..key },
        FlowKey { interface: 1, ..key },
        FlowKey { protocol: 1, ..key },
        FlowKey { direction: 1, ..key },
    ];
    for variant in variants {
        assert_ne!(
            flow_hash(&variant, false, |i| keys[i]),
            flow_hash(&key, false, |i| keys[i]),
            "{variant:?}"
        );
    }
}
