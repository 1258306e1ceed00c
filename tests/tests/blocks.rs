//! Blocks that the agent encodes are what the engine reads: every value, every column, in whole
//! batches and in halves. Needs libchdb (`cargo xtask setup`); no privileges.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::Arc;

use clickhouse::Compression;
use flow_agent::batch::flow_columns;
use flow_agent::clock::wall_clock;
use flow_agent::enrich::{BatchLabels, Country, Labels, Place};
use flow_agent::frozen::FrozenBatch;
use flow_agent::latency::{Bucket, Stage};
use flow_agent::ledger::{Counts, Entry};
use flow_agent::names::Names;
use flow_agent::record::{FlowEndReason, FlowRecord, InitiatorBy};
use flow_agent::sink::write_json_lines;
use flow_common::random::SplitMix64;
use flow_common::{Count, Direction, Tunnel};
use flow_tests::sql;
use flow_tests::store::Store;
use serde_json::Value;

/// Now: what is older than the tables keep would be gone at once.
fn now() -> u32 {
    (wall_clock() / 1_000_000_000) as u32
}

fn insert(store: &Store, batch: &FrozenBatch) {
    let client = store.client().with_compression(Compression::None);
    let inserted = async {
        let mut insert = client.insert_formatted_with(batch.insert_sql("flow"));
        insert.send(batch.block.clone()).await?;
        insert.end().await
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(inserted).expect("stored");
}

fn address(random: &mut SplitMix64) -> [u8; 16] {
    let number = random.next();
    match number % 3 {
        0 => Ipv6Addr::from((u128::from(number) << 64) | u128::from(random.next())).octets(),
        _ => std::net::Ipv4Addr::from_bits(number as u32).to_ipv6_mapped().octets(),
    }
}

fn tunnel(random: &mut SplitMix64) -> Option<Box<Tunnel>> {
    let number = random.next();
    number.is_multiple_of(4).then(|| {
        let (src, dst) = (address(random).into(), address(random).into());
        Box::new(Tunnel { kind: 1 + (number >> 8) as u32 % 5, id: number as u32, src, dst })
    })
}

/// Records that differ in everything; start and number tell them apart.
fn records(count: u64, random: &mut SplitMix64) -> Vec<FlowRecord> {
    let record = |at: u64| {
        let (a, b, c) = (random.next(), random.next(), random.next());
        let start_ns = 1_600_000_000_000_000_000 + at * 3_600_000_000_001 + a % 1_000_000_007;
        let protocol = [6, 17, 1, 58, 132, 47][a as usize % 6];
        let ports = matches!(protocol, 6 | 17 | 132);
        FlowRecord {
            start_ns,
            end_ns: start_ns + b % 60_000_000_000,
            interface: (a >> 8) as u16 % 4,
            direction: Direction::from_number((a >> 16) as u8 % 3),
            src: address(random),
            dst: address(random),
            src_port: if ports { b as u16 } else { 0 },
            dst_port: if ports {
                [443, 53, 5060, 38412, c as u16][(c >> 16) as usize % 5]
            } else {
                0
            },
            protocol,
            icmp_type: if ports { 0 } else { (b >> 16) as u8 },
            icmp_code: if ports { 0 } else { (b >> 24) as u8 },
            vlan_id: (c >> 24) as u16,
            inner_vlan_id: (c >> 32) as u16,
            packets: a >> 32,
            octets: b >> 1,
            reverse_packets: u64::from(b as u32),
            reverse_octets: c >> 1,
            tcp_flags: (c >> 40) as u8,
            reverse_tcp_flags: (c >> 48) as u8,
            dscp: (a >> 40) as u8,
            min_ttl: (b >> 40) as u8,
            max_ttl: (b >> 48) as u8,
            tunnel: tunnel(random),
            handshake_rtt_ns: c,
            retransmits: c as u32,
            end_reason: FlowEndReason::from_number(1 + (a >> 48) as u8 % 5).expect("in range"),
            initiator_by: InitiatorBy::from_number(1 + (a >> 56) as u8 % 4).expect("in range"),
            sampling: 1 + a as u32 % 1000,
        }
    };
    (0..count).map(record).collect()
}

fn labels(count: u64, random: &mut SplitMix64) -> BatchLabels {
    // As without a look-up of services: JSON lines have the built-in names alone.
    let mut labels = BatchLabels::with_capacity(count as usize, false);
    let text = |kind: &str, number: u64| -> Arc<str> {
        if number == 0 { "".into() } else { format!("{kind}-{number}.example").into() }
    };
    for _ in 0..count {
        let number = random.next();
        let country = |number: u64| Country::new(["", "DE", "FR", "US"][number as usize % 4]);
        let label = Labels {
            src: Place { country: country(number), asn: number as u32 % 70_000 },
            dst: Place { country: country(number >> 2), asn: (number >> 20) as u32 % 3 },
            src_host: labels.text(&text("host", number >> 8 & 0x1ff)),
            dst_host: labels.text(&text("host", number >> 17 & 3)),
            unit: labels.text(&text("unit", number >> 20 & 0x3ff)),
            service: 0,
        };
        labels.push(label);
    }
    labels.freeze();
    labels
}

/// The engine's answer in the words of the JSON output.
const SELECT: &str = "SELECT * REPLACE(\
     concat(replaceOne(toString(flow_start), ' ', 'T'), 'Z') AS flow_start, \
     concat(replaceOne(toString(flow_end), ' ', 'T'), 'Z') AS flow_end, \
     replaceRegexpOne(toString(src_ip), '^::ffff:(.*\\\\.)', '\\\\1') AS src_ip, \
     replaceRegexpOne(toString(dst_ip), '^::ffff:(.*\\\\.)', '\\\\1') AS dst_ip, \
     replaceRegexpOne(toString(tunnel_src), '^::ffff:(.*\\\\.)', '\\\\1') AS tunnel_src, \
     replaceRegexpOne(toString(tunnel_dst), '^::ffff:(.*\\\\.)', '\\\\1') AS tunnel_dst, \
     toUnixTimestamp(exported_at) AS exported_at), community_id \
     FROM flow.flows ORDER BY flows.flow_start \
     SETTINGS output_format_json_quote_64bit_integers = 0 FORMAT JSONEachRow";

type Row = BTreeMap<String, Value>;

fn parse(lines: &str) -> Vec<Row> {
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn the_engine_reads_what_json_lines_say() {
    let store = Store::with_tables();
    let (names, exported_at) = (Names::new("host-7", &["eth0", "wlan0", "eth0"]), now());
    for (seed, count) in [(1, 1), (2, 700), (3, 5_000)] {
        store.sql("TRUNCATE TABLE flow.flows");
        let mut random = SplitMix64::new(seed);
        let (records, labels) = (records(count, &mut random), labels(count, &mut random));
        let id = uuid::Uuid::now_v7();
        let batch = FrozenBatch::of_flows(&records, &labels, &names, id, exported_at);
        insert(&store, &batch);
        let stored = parse(&sql::text(store.url(), SELECT).expect("an answer"));

        let mut lines = Vec::new();
        write_json_lines(&mut lines, records.iter().enumerate(), Some(&labels), &names)
            .expect("in memory");
        let lines = parse(std::str::from_utf8(&lines).expect("text"));
        assert_eq!(stored.len(), lines.len());
        for (at, (stored, mut line)) in stored.into_iter().zip(lines).enumerate() {
            // These are not in a replay's lines.
            let row = labels.row(at);
            for (key, value) in [
                ("exported_at", exported_at.into()),
                ("batch_id", id.to_string().into()),
                ("src_host", row.src_host.into()),
                ("dst_host", row.dst_host.into()),
                ("unit", row.unit.into()),
            ] {
                line.insert(key.into(), value);
            }
            assert_eq!(stored, line, "seed {seed}, row {at}");
        }
    }
    store.stop();
}

#[test]
fn halves_store_the_rows_of_the_whole() {
    let store = Store::with_tables();
    let (names, exported_at) = (Names::new("host-7", &["eth0", "wlan0"]), now());
    let mut random = SplitMix64::new(9);
    let (records, labels) = (records(999, &mut random), labels(999, &mut random));
    let whole = FrozenBatch::of_flows(&records, &labels, &names, uuid::Uuid::now_v7(), exported_at);
    // What the rows are, whatever their batch.
    let rows = || store.sql("SELECT count(), sum(cityHash64(* EXCEPT batch_id)) FROM flow.flows");
    insert(&store, &whole);
    let expected = rows();
    store.sql("TRUNCATE TABLE flow.flows");
    let halves = whole.halves().expect("more than one row");
    for half in &halves {
        insert(&store, half);
        let id = half.id;
        let question = format!("SELECT count() FROM flow.flows WHERE batch_id = '{id}'");
        assert_eq!(store.sql(&question), half.rows.to_string());
    }
    assert_eq!(rows(), expected);
    store.stop();
}

#[test]
fn every_column_of_flows_is_in_the_block_with_its_type_or_has_a_default() {
    let store = Store::with_tables();
    let question = "SELECT name, type, default_kind FROM system.columns \
                    WHERE database = 'flow' AND table = 'flows'";
    let table = sql::rows(store.url(), question).expect("an answer");
    let mut block: BTreeMap<_, _> =
        flow_columns().map(|column| (column.name, column.kind)).collect();
    for column in &table {
        let [name, kind, default] = &column[..] else { panic!("three columns: {column:?}") };
        // The answer escapes quotes.
        let kind = kind.replace("\\'", "'");
        match block.remove(name.as_str()) {
            Some(encoded) => assert_eq!(encoded, kind, "{name}"),
            None => assert!(!default.is_empty(), "{name} is not in the block"),
        }
    }
    assert!(block.is_empty(), "not in the table: {block:?}");
    store.stop();
}

#[test]
fn books_are_stored_as_they_are() {
    let store = Store::with_tables();
    for table in ["ledger", "latency"] {
        store.sql(&format!("ALTER TABLE flow.{table} ADD COLUMN IF NOT EXISTS batch_id UUID"));
    }
    let exported_at = now();
    let count = |packets| Count { packets, octets: packets * 100 };
    let counts: Counts = [
        ((Arc::from("eth0"), Entry::Seen), count(u64::MAX / 100)),
        ((Arc::from("eth0"), Entry::NotMetered(0)), count(2)),
        ((Arc::from("wlan0"), Entry::Acknowledged), count(3)),
    ]
    .into();
    let ledger = FrozenBatch::of_ledger(&counts, "host-7", uuid::Uuid::now_v7(), exported_at);
    insert(&store, &ledger);
    let id = ledger.id;
    let stored = store.sql(&format!(
        "SELECT toUnixTimestamp(ts), exporter, interface, stage, reason, packets, octets \
         FROM flow.ledger WHERE batch_id = '{id}' ORDER BY packets FORMAT CSV"
    ));
    let mut expected: Vec<_> = counts.iter().collect();
    expected.sort_by_key(|(_, count)| count.packets);
    let line = |((interface, entry), count): &(&(Arc<str>, Entry), &Count)| {
        let (stage, reason) = entry.labels();
        let Count { packets, octets } = count;
        format!(
            "{exported_at},\"host-7\",\"{interface}\",\"{stage}\",\"{reason}\",{packets},{octets}"
        )
    };
    assert_eq!(stored, expected.iter().map(line).collect::<Vec<_>>().join("\n"));

    let bucket = |stage, upper_ns, count| Bucket { stage, upper_ns, count };
    let buckets = [bucket(Stage::Drain, 7, 1), bucket(Stage::Insert, u64::MAX, 2)];
    let latency = FrozenBatch::of_latency(&buckets, "host-7", uuid::Uuid::now_v7(), exported_at);
    insert(&store, &latency);
    let id = latency.id;
    let stored = store.sql(&format!(
        "SELECT toUnixTimestamp(ts), exporter, stage, bucket_ns, count \
         FROM flow.latency WHERE batch_id = '{id}' ORDER BY bucket_ns FORMAT CSV"
    ));
    let line = |bucket: &Bucket| {
        let Bucket { stage, upper_ns, count } = bucket;
        format!("{exported_at},\"host-7\",\"{}\",{upper_ns},{count}", stage.label())
    };
    assert_eq!(stored, buckets.iter().map(line).collect::<Vec<_>>().join("\n"));
    store.stop();
}
