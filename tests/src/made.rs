//! A small capture made by hand, and replays of it: what leaves is known in advance.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use etherparse::PacketBuilder;
use serde_json::Value;

use crate::bin_path::flow_agent;

const CLIENT: [u8; 4] = [10, 0, 0, 1];
const SERVER: [u8; 4] = [10, 0, 0, 2];

/// Unix seconds of the first packet.
const START: u32 = 1_700_000_000;

/// A classic pcap file, microseconds, little endian, Ethernet.
#[derive(Debug)]
pub struct Pcap(pub Vec<u8>);

impl Default for Pcap {
    fn default() -> Self {
        Self::new()
    }
}

impl Pcap {
    /// A file without packets.
    pub fn new() -> Self {
        let mut file = Vec::new();
        file.extend(0xa1b2_c3d4u32.to_le_bytes());
        file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        file.extend(65_535u32.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        Self(file)
    }

    /// Adds a frame, so many microseconds after the start.
    pub fn add(&mut self, micros: u32, frame: &[u8]) {
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
pub fn capture() -> Vec<u8> {
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

/// A temporary folder with one file in it.
pub fn folder_with(name: &str, content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join(name);
    std::fs::write(&file, content).expect("writes");
    (folder, file)
}

/// Runs `flow-agent replay` on a file.
pub fn replay(arguments: &[&str], file: &Path) -> Output {
    Command::new(flow_agent())
        .args(["replay", "--exporter", "probe"])
        .args(arguments)
        .arg(file)
        .output()
        .expect("runs")
}

/// Reads a JSON file.
pub fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("written")).expect("JSON")
}

/// The rows that a replay has written to its standard output.
pub fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::str::from_utf8(&output.stdout).expect("JSON is UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}
