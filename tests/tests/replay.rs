//! Replay of captures made here: the rows, all of them, exactly. Needs the store, not root.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use etherparse::PacketBuilder;
use flate2::Compression;
use flate2::write::GzEncoder;
use flow_tests::bin_path::flow_agent;
use serde_json::{Value, json};

const CLIENT: [u8; 4] = [10, 0, 0, 1];
const SERVER: [u8; 4] = [10, 0, 0, 2];

/// Unix seconds of the first packet.
const START: u32 = 1_700_000_000;

/// A classic pcap file, microseconds, little endian, Ethernet.
struct Pcap(Vec<u8>);

impl Pcap {
    fn new() -> Self {
        let mut file = Vec::new();
        file.extend(0xa1b2_c3d4u32.to_le_bytes());
        file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        file.extend(65_535u32.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        Self(file)
    }

    fn add(&mut self, micros: u32, frame: &[u8]) {
        self.0.extend((START + micros / 1_000_000).to_le_bytes());
        self.0.extend((micros % 1_000_000).to_le_bytes());
        self.0.extend((frame.len() as u32).to_le_bytes());
        self.0.extend((frame.len() as u32).to_le_bytes());
        self.0.extend(frame);
    }
}

fn ethernet() -> etherparse::PacketBuilderStep<etherparse::Ethernet2Header> {
    PacketBuilder::ethernet2([2; 6], [4; 6])
}

fn tcp(from_client: bool, flags: &str, payload: usize) -> Vec<u8> {
    let (src, dst) = if from_client { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
    let (sport, dport) = if from_client { (50_000, 443) } else { (443, 50_000) };
    let ttl = if from_client { 64 } else { 57 };
    let mut builder = ethernet().ipv4(src, dst, ttl).tcp(sport, dport, 1, 1000);
    for flag in flags.chars() {
        builder = match flag {
            'S' => builder.syn(),
            'A' => builder.ack(1),
            'F' => builder.fin(),
            _ => unreachable!("a flag of this test"),
        };
    }
    let mut frame = Vec::new();
    builder.write(&mut frame, &vec![0; payload]).expect("valid");
    frame
}

fn ping(request: bool) -> Vec<u8> {
    let (src, dst) = if request { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
    let builder = ethernet().ipv4(src, dst, 64);
    let mut frame = Vec::new();
    if request {
        builder.icmpv4_echo_request(1, 1).write(&mut frame, &[0; 56]).expect("valid");
    } else {
        builder.icmpv4_echo_reply(1, 1).write(&mut frame, &[0; 56]).expect("valid");
    }
    frame
}

/// A TCP connection, a ping, a UDP question 20 s apart from its second, and ARP.
fn capture() -> Vec<u8> {
    let mut pcap = Pcap::new();
    pcap.add(0, &tcp(true, "S", 0));
    pcap.add(200, &tcp(false, "SA", 0));
    pcap.add(300, &tcp(true, "A", 0));
    pcap.add(400, &tcp(true, "A", 1000));
    pcap.add(900, &tcp(false, "A", 500));
    pcap.add(1000, &tcp(true, "FA", 0));
    pcap.add(1100, &tcp(false, "FA", 0));
    pcap.add(1200, &tcp(true, "A", 0));
    // The answer is first: the capture began too late.
    pcap.add(2000, &ping(false));
    pcap.add(3000, &ping(true));
    let mut arp = vec![0xff; 60];
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    pcap.add(4000, &arp);
    let mut udp = Vec::new();
    let builder = ethernet().ipv6([0xfd; 16], [0xfc; 16], 64).udp(40_000, 53);
    builder.write(&mut udp, &[0; 20]).expect("valid");
    pcap.add(5000, &udp);
    pcap.add(20_005_000, &udp);
    pcap.0
}

fn folder_with(name: &str, content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join(name);
    std::fs::write(&file, content).expect("writes");
    (folder, file)
}

fn replay(arguments: &[&str], file: &Path) -> Output {
    Command::new(flow_agent())
        .args(["replay", "--exporter", "probe"])
        .args(arguments)
        .arg(file)
        .output()
        .expect("runs")
}

fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("written")).expect("JSON")
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::str::from_utf8(&output.stdout).expect("JSON is UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

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
        let error = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains(words), "{error}");
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

/// Runs `replay` with these arguments, the standard input from `input`; it must be refused with a
/// sentence that has `words`.
fn assert_refused(arguments: &[&str], input: Option<&Path>, words: &str) {
    let input =
        input.map_or_else(Stdio::null, |path| std::fs::File::open(path).expect("there").into());
    let output = Command::new(flow_agent())
        .arg("replay")
        .args(arguments)
        .stdin(input)
        .output()
        .expect("runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
    assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
    assert!(error.contains(words), "{arguments:?}: {error}");
}

#[test]
fn a_file_in_two_roles_is_refused_and_kept() {
    let (folder, file) = folder_with("made.pcap", &capture());
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_string();
    std::fs::hard_link(&file, path("hard")).expect("linked");
    std::os::unix::fs::symlink(&file, path("soft")).expect("linked");
    let (made, hard, soft) = (path("made.pcap"), path("hard"), path("soft"));
    let (rows, same) = (format!("jsonl:{}", path("new")), path("./new"));
    for arguments in [
        &["--output", &format!("jsonl:{made}"), &made][..],
        &["--output", &format!("jsonl:{soft}"), &made],
        &["--output", &format!("jsonl:{made}"), &hard],
        &["--ledger", &soft, &hard],
        &["--output", &rows, "--ledger", &same, &made],
        &[&made, &soft],
        &["-", "-"],
        &["-", &made],
        &["--ledger", &made, "-"],
    ] {
        assert_refused(arguments, Some(&file), "is the same file as");
        assert_eq!(std::fs::read(&file).expect("kept"), capture());
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("ours").count(), 3);
}

#[test]
fn what_cannot_be_read_or_written_is_refused_before_any_work() {
    let (folder, file) = folder_with("made.pcap", &capture());
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_string();
    std::fs::write(path("text"), "no capture").expect("ours");
    let mut ppp = Pcap::new();
    ppp.0[20] = 9;
    ppp.add(0, &[0; 20]);
    std::fs::write(path("ppp.pcap"), &ppp.0).expect("ours");
    let made = file.to_str().expect("UTF-8");
    let (data, store) = (path("data"), format!("embedded:{}", path("data")));
    let to_folder = format!("jsonl:{}", folder.path().display());
    for (arguments, words) in [
        (&[made, &path("text")][..], "text is no capture"),
        (&[made, &path("missing")], "missing"),
        (&[made, &path("ppp.pcap")], "ppp.pcap: link type PPP"),
        (&[made, "--ledger", &path("no/ledger")], "the ledger"),
        (&[made, "--ledger", "/dev/null/ledger"], "the ledger"),
    ] {
        assert_refused(&[&["--output", &store], arguments].concat(), None, words);
        assert!(!Path::new(&data).exists(), "the store was started: {arguments:?}");
    }
    assert_refused(&["--output", &to_folder, made], None, "the output");
    assert_refused(&["--output", "jsonl:/no/rows", made], None, "the output");
}

#[test]
fn an_unknown_link_type_late_in_a_capture_leaves_the_old_rows() {
    let mut dice = flow_tests::wild::Dice::new(7);
    let good = flow_tests::wild::frames(&mut dice, 1, 3);
    let late = flow_tests::wild::pcapng(&[(1, good.clone()), (9, good)]);
    let (folder, file) = folder_with("late.pcapng", &late);
    let rows = folder.path().join("rows");
    std::fs::write(&rows, "old").expect("ours");
    let to_rows = format!("jsonl:{}", rows.display());
    assert_refused(&["--output", &to_rows, file.to_str().expect("UTF-8")], None, "late.pcapng: ");
    assert_eq!(std::fs::read_to_string(&rows).expect("kept"), "old");
    assert_eq!(std::fs::read_dir(folder.path()).expect("ours").count(), 2);
}

#[test]
fn devices_fifos_and_the_standard_output_are_written_as_they_are() {
    let (folder, file) = folder_with("made.pcap", &capture());
    let expected = replay(&[], &file).stdout;
    let null = replay(&["--output", "jsonl:/dev/null", "--ledger", "/dev/stdout"], &file);
    assert!(null.status.success());
    let ledger: Value = serde_json::from_slice(&null.stdout).expect("JSON");
    assert_eq!(ledger["flows_emitted"], 4);
    assert_eq!(replay(&["--output", "jsonl:/dev/stdout"], &file).stdout, expected);
    // A fifo on each side.
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    for fifo in [&input, &output] {
        assert!(Command::new("mkfifo").arg(fifo).status().expect("runs").success());
    }
    let filler = {
        let input = input.clone();
        std::thread::spawn(move || std::fs::write(input, capture()).expect("is read"))
    };
    let mut child = Command::new(flow_agent())
        .args(["replay", "--exporter", "probe", "--output"])
        .arg(format!("jsonl:{}", output.display()))
        .arg(&input)
        .spawn()
        .expect("runs");
    let rows = String::from_utf8(std::fs::read(&output).expect("is written")).expect("UTF-8");
    assert!(child.wait().expect("ends").success());
    filler.join().expect("ends");
    assert_eq!(rows.replace("\"in\"", "\"made.pcap\"").into_bytes(), expected);
}

#[test]
fn a_full_standard_output_fails_and_one_that_is_closed_does_not() {
    let (folder, file) = folder_with("made.pcap", &capture());
    let ledger = folder.path().join("ledger.json");
    let start = |stdout: Stdio| {
        let mut command = Command::new(flow_agent());
        command.arg("replay").arg("--ledger").arg(&ledger).arg(&file);
        command.stdout(stdout).stderr(Stdio::piped()).spawn().expect("runs")
    };
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a Linux host");
    let output = start(full.into()).wait_with_output().expect("ends");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.lines().count() == 1 && error.contains("standard output"), "{error}");

    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = start(writer.into()).wait_with_output().expect("ends");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
    assert_eq!(json_file(&ledger)["flows_emitted"], 4);
}

#[test]
fn captures_of_one_name_are_told_apart_by_their_paths() {
    let (folder, file) = folder_with("made.pcap", &capture());
    let other = folder.path().join("b").join("made.pcap");
    std::fs::create_dir(folder.path().join("b")).expect("made");
    std::fs::copy(&file, &other).expect("copied");
    let output = replay(&[file.to_str().expect("UTF-8")], &other);
    let mut names: Vec<_> = lines(&output).iter().map(|row| row["interface"].clone()).collect();
    names.sort_by_key(Value::to_string);
    names.dedup();
    assert_eq!(names, [json!(other), json!(file)]);
}
