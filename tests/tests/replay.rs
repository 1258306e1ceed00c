//! Replay of captures made here: the rows, all of them, exactly. Needs the store, not root.

use std::io::Write;
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use flow_tests::bin_path::flow_agent;
use flow_tests::made::{Pcap, capture, folder_with, json_file, lines, replay};
use flow_tests::refusal::refused;
use serde_json::{Value, json};

/// A row as it is expected: what is not named has the value of an ordinary flow.
fn row(changes: Value) -> Value {
    let mut row = json!({
        "exported_at": null, "exporter": "probe", "interface": "made.pcap",
        "direction": "unknown", "src_ip": "10.0.0.1", "dst_ip": "10.0.0.2",
        "src_port": 0, "dst_port": 0, "reverse_packets": 0, "reverse_bytes": 0,
        "tcp_flags": 0, "reverse_tcp_flags": 0, "icmp_type": 0, "icmp_code": 0,
        "vlan_id": 0, "inner_vlan_id": 0, "dscp": 0, "min_ttl": 64, "max_ttl": 64,
        "tunnel_type": "none", "tunnel_id": 0, "tunnel_src": "::", "tunnel_dst": "::",
        "handshake_rtt_ns": 0, "retransmits": 0, "service": "",
        "flow_end_reason": "forced_end", "sampling": 1, "batch_id": null,
    });
    for (key, value) in changes.as_object().expect("an object") {
        row[key] = value.clone();
    }
    row
}

fn expected() -> Vec<Value> {
    let udp = |start: &str, reason: &str| {
        row(json!({
            "flow_start": start, "flow_end": start, "src_port": 40000, "dst_port": 53,
            "src_ip": "fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd",
            "dst_ip": "fcfc:fcfc:fcfc:fcfc:fcfc:fcfc:fcfc:fcfc",
            "protocol": 17, "packets": 1, "bytes": 68, "service": "domain",
            "flow_end_reason": reason, "initiator_by": "first_packet",
        }))
    };
    vec![
        row(json!({
            "flow_start": "2023-11-14T22:13:20.000000000Z",
            "flow_end": "2023-11-14T22:13:20.001200000Z",
            "src_port": 50000, "dst_port": 443, "protocol": 6,
            "packets": 5, "bytes": 1200, "reverse_packets": 3, "reverse_bytes": 620,
            "tcp_flags": 0x13, "reverse_tcp_flags": 0x13, "min_ttl": 57,
            "handshake_rtt_ns": 200_000, "service": "https",
            "flow_end_reason": "end_of_flow", "initiator_by": "syn",
        })),
        row(json!({
            "flow_start": "2023-11-14T22:13:20.002000000Z",
            "flow_end": "2023-11-14T22:13:20.003000000Z",
            "protocol": 1, "packets": 1, "bytes": 84, "reverse_packets": 1, "reverse_bytes": 84,
            "icmp_type": 8, "flow_end_reason": "idle_timeout", "initiator_by": "icmp",
        })),
        udp("2023-11-14T22:13:20.005000000Z", "idle_timeout"),
        udp("2023-11-14T22:13:40.005000000Z", "forced_end"),
    ]
}

#[test]
fn a_capture_gives_exactly_these_rows() {
    let (folder, file) = folder_with("made.pcap", &capture());
    let ledger = folder.path().join("ledger.json");
    let output = replay(&["--ledger", ledger.to_str().expect("UTF-8")], &file);
    let mut rows = lines(&output);
    for row in &mut rows {
        let id = row.as_object_mut().expect("an object").remove("community_id");
        let id = id.expect("every row has one");
        assert!(id.as_str().is_some_and(|id| id.starts_with("1:") && id.len() == 30), "{id}");
    }
    assert_eq!(rows, expected());
    assert_eq!(
        json_file(&ledger),
        json!({
            "packets_seen": 13, "packets_metered": 12, "packets_not_metered": {"arp": 1},
            "packets_lost": {}, "packets_unaccounted": 0,
            "octets_metered": 1200 + 620 + 168 + 136, "flows_emitted": 4,
            "captures_damaged": 0,
        })
    );
}

#[test]
fn the_same_capture_gives_the_same_bytes_from_a_file_gzip_or_standard_input() {
    let (folder, file) = folder_with("made.pcap", &capture());
    let first = replay(&[], &file).stdout;
    assert!(!first.is_empty());
    assert_eq!(replay(&[], &file).stdout, first);

    let zipped = folder.path().join("zipped").join("made.pcap");
    std::fs::create_dir(zipped.parent().expect("a folder")).expect("made");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&capture()).expect("compresses");
    std::fs::write(&zipped, encoder.finish().expect("compresses")).expect("writes");
    assert_eq!(replay(&[], &zipped).stdout, first);

    let mut child = Command::new(flow_agent())
        .args(["replay", "--exporter", "probe", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    child.stdin.take().expect("piped").write_all(&capture()).expect("is read");
    let piped = child.wait_with_output().expect("ends");
    assert!(piped.status.success());
    // Only the name of the interface differs.
    let piped = String::from_utf8(piped.stdout).expect("UTF-8");
    assert_eq!(piped.lines().count(), 4);
    assert_eq!(piped.replace("\"stdin\"", "\"made.pcap\"").into_bytes(), first);
}

#[test]
fn a_truncated_capture_is_metered_up_to_the_cut_and_says_so() {
    let capture = capture();
    let (folder, file) = folder_with("made.pcap", &capture[..capture.len() - 1]);
    let ledger = folder.path().join("ledger.json");
    let output = replay(&["--ledger", ledger.to_str().expect("UTF-8")], &file);
    assert_eq!(lines(&output).len(), 3);
    let words = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(words.contains("made.pcap") && words.contains("cut off"), "{words}");
    assert_eq!(json_file(&ledger)["captures_damaged"], 1);
}

#[test]
fn what_cannot_be_replayed_is_one_sentence_and_leaves_nothing() {
    let mut ppp = Pcap::new();
    ppp.0[20] = 9;
    ppp.add(0, &[0; 20]);
    for (content, words) in
        [(&b"this is no capture"[..], "made.pcap"), (b"", "made.pcap"), (&ppp.0, "PPP")]
    {
        let (folder, file) = folder_with("made.pcap", content);
        let rows = folder.path().join("rows");
        let output = replay(&["--output", &format!("jsonl:{}", rows.display())], &file);
        refused(&output, 2, &[words]);
        assert!(!rows.exists());
    }
}

#[test]
fn the_embedded_store_has_the_same_rows() {
    let (folder, file) = folder_with("made.pcap", &capture());
    let store = format!("embedded:{}", folder.path().join("store").display());
    let output = replay(&["--output", &store], &file);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let columns = "flow_start, src_ip, dst_ip, src_port, dst_port, protocol, packets, bytes, \
                   reverse_packets, reverse_bytes, initiator_by, flow_end_reason, service, \
                   handshake_rtt_ns, community_id, tunnel_type, sampling";
    let sql = format!("SELECT {columns} FROM flow.flows ORDER BY flow_start");
    let output = Command::new(flow_agent())
        .args(["query", "--store", &store, "--format", "JSONEachRow", &sql])
        .output()
        .expect("runs");
    let stored = lines(&output);
    // How old a capture is says nothing of the agent.
    let sql = "SELECT DISTINCT stage FROM flow.latency";
    let stages = Command::new(flow_agent())
        .args(["query", "--store", &store, "--format", "TSV", sql])
        .output()
        .expect("runs");
    assert_eq!(String::from_utf8_lossy(&stages.stdout), "insert\n");
    let replayed = lines(&replay(&[], &file));
    assert_eq!(stored.len(), replayed.len());
    for (stored, replayed) in stored.iter().zip(&replayed) {
        for (column, value) in stored.as_object().expect("an object") {
            // ClickHouse quotes 64-bit numbers and maps IPv4.
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            let text = text.replace("::ffff:", "");
            let other = &replayed[column];
            let other = other.as_str().map_or_else(|| other.to_string(), str::to_string);
            let other = if column == "flow_start" {
                other.replace('T', " ").replace('Z', "")
            } else {
                other
            };
            assert_eq!(text, other, "{column}");
        }
    }
}
