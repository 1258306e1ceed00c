//! `flow-agent replay` against the independent reference: on captures built here, and on every
//! real capture there is ([`corpus::folder`]).
//!
//! Needs the `flow-agent` binary: `FLOW_AGENT_BIN`, else the one in this build's target folder.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flow_tests::corpus;
use flow_tests::reference::{self, Direction, Refusal, Sum, Totals, Tunnel};
use flow_tests::wild::{self, Dice};
use serde_json::Value;

/// Link types whose packets are metered.
const LINKS: [u16; 9] = [1, 113, 276, 101, 12, 228, 229, 0, 108];

#[test]
fn captures_of_every_link_type() {
    let folder = tempfile::tempdir().unwrap();
    let mut dice = Dice::new(1);
    for link in LINKS {
        let frames = wild::frames(&mut dice, link, 20_000);
        assert_equal(&write(&folder, &format!("{link}.pcap"), &wild::pcap(link, &frames)));
    }
}

#[test]
fn the_captures_built_here_have_every_tunnel() {
    let folder = tempfile::tempdir().unwrap();
    let frames = wild::frames(&mut Dice::new(1), 1, 20_000);
    let file = write(&folder, "tunnels.pcap", &wild::pcap(1, &frames));
    let totals = reference::totals(&file, true).unwrap();
    let mut packets: BTreeMap<&str, u64> = BTreeMap::new();
    for ((tunnel, _), sum) in &totals.tunnelled {
        *packets.entry(tunnel.kind).or_default() += sum.packets;
    }
    let often = |kind: &&str| packets.get(kind).is_some_and(|packets| *packets > 50);
    assert!(["vxlan", "geneve", "gre", "ipip", "gtpu"].iter().all(often), "{packets:?}");
    println!("{packets:?}");
}

#[test]
fn a_capture_of_several_interfaces_cut_and_compressed() {
    let folder = tempfile::tempdir().unwrap();
    let mut dice = Dice::new(2);
    let interfaces = LINKS.map(|link| (link, wild::frames(&mut dice, link, 2_000)));
    let bytes = wild::pcapng(&interfaces);
    assert_equal(&write(&folder, "several.pcapng", &bytes));
    assert_equal(&write(&folder, "cut.pcapng", &bytes[..bytes.len() - 7]));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&bytes).unwrap();
    assert_equal(&write(&folder, "compressed", &encoder.finish().unwrap()));
}

#[test]
fn a_link_type_that_is_not_supported_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let frames = wild::frames(&mut Dice::new(3), 1, 10);
    let file = write(&folder, "radio.pcap", &wild::pcap(127, &frames));
    assert_equal(&file);
    let output = replay(&file, folder.path(), false);
    assert!(String::from_utf8_lossy(&output.stderr).contains("IEEE802_11_RADIOTAP"));
}

#[test]
fn what_is_no_capture_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [("empty", &b""[..]), ("text", b"not a capture at all")] {
        assert_refused(&replay(&write(&folder, name, bytes), folder.path(), false), name);
    }
    assert_refused(&replay(&folder.path().join("missing"), folder.path(), false), "missing");
}

#[test]
fn the_corpus() {
    let built = tempfile::tempdir().unwrap();
    let folder = corpus::folder().unwrap_or_else(|| {
        // No real captures here: a small corpus of what is built above.
        let mut dice = Dice::new(4);
        let interfaces = LINKS.map(|link| (link, wild::frames(&mut dice, link, 1_000)));
        for (link, frames) in &interfaces {
            write(&built, &format!("{link}.cap"), &wild::pcap(*link, frames));
        }
        write(&built, "all.pcapng", &wild::pcapng(&interfaces));
        built.path().to_owned()
    });
    let captures = corpus::captures(&folder);
    let both = |file| [false, true].map(|decapsulate| compare(file, decapsulate).err());
    let differences: Vec<_> = captures.iter().flat_map(|file| both(file)).flatten().collect();
    let count = differences.len();
    assert!(differences.is_empty(), "{count} of {}:\n{}", captures.len(), differences.join("\n"));
    println!("{} captures agree", captures.len());
}

fn write(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn assert_equal(file: &Path) {
    for decapsulate in [false, true] {
        if let Err(difference) = compare(file, decapsulate) {
            panic!("decapsulate {decapsulate}: {difference}");
        }
    }
}

/// Runs replay on `file`, the outputs in `folder`.
fn replay(file: &Path, folder: &Path, decapsulate: bool) -> Output {
    let agent = flow_tests::bin_path::flow_agent();
    Command::new(&agent)
        .arg("replay")
        .args(decapsulate.then_some("--decapsulate"))
        .arg("--output")
        .arg(format!("jsonl:{}", folder.join("rows").display()))
        .arg("--ledger")
        .arg(folder.join("ledger"))
        .arg(file)
        .output()
        .unwrap_or_else(|error| panic!("cannot run {}: {error}", agent.display()))
}

/// Compares replay with the reference; the error says how they differ.
fn compare(file: &Path, decapsulate: bool) -> Result<(), String> {
    let name = file.display();
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let output = replay(file, folder.path(), decapsulate);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let expected = match reference::totals(file, decapsulate) {
        Ok(totals) => totals,
        Err(Refusal::NoCapture(_) | Refusal::LinkType(_)) => {
            return match (output.status.code(), stderr.trim().lines().count()) {
                (Some(2), 1) => Ok(()),
                (code, _) => Err(format!("{name}: a refusal expected, exit {code:?}: {stderr}")),
            };
        }
    };
    if output.status.code() != Some(0) {
        return Err(format!("{name}: exit {:?}: {stderr}", output.status.code()));
    }
    let rows = read_rows(&folder.path().join("rows"))?;
    let ledger = std::fs::read_to_string(folder.path().join("ledger"))
        .map_err(|error| format!("{name}: ledger: {error}"))?;
    let ledger: Value =
        serde_json::from_str(&ledger).map_err(|error| format!("{name}: {error}: {ledger}"))?;
    let mut differences = ledger_differences(&ledger, &expected, rows.count);
    differences.extend(sum_differences(&rows.directions, &expected.directions));
    differences.extend(sum_differences(&rows.tunnelled, &expected.tunnelled));
    if differences.is_empty() {
        return Ok(());
    }
    let more = differences.len().saturating_sub(8);
    differences.truncate(8);
    Err(format!("{name}: {}; {more} more", differences.join("; ")))
}

/// The rows of a `jsonl` output, summed.
struct Rows {
    count: u64,
    directions: BTreeMap<Direction, Sum>,
    tunnelled: BTreeMap<(Tunnel, Direction), Sum>,
}

fn read_rows(path: &Path) -> Result<Rows, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("rows: {error}"))?;
    let mut rows = Rows { count: 0, directions: BTreeMap::new(), tunnelled: BTreeMap::new() };
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
        let number = |key: &str| row[key].as_u64().ok_or(format!("no {key}: {line}"));
        let address = |key: &str| -> Result<IpAddr, String> {
            let text = row[key].as_str().ok_or(format!("no {key}: {line}"))?;
            text.parse().map_err(|error| format!("{key}: {error}: {line}"))
        };
        let kinds = ["vxlan", "geneve", "gre", "ipip", "gtpu"];
        let tunnel = match kinds.into_iter().find(|kind| row["tunnel_type"] == *kind) {
            Some(kind) => Some(Tunnel {
                kind,
                id: number("tunnel_id")? as u32,
                src: address("tunnel_src")?,
                dst: address("tunnel_dst")?,
            }),
            None => None,
        };
        let forward = Direction {
            src: address("src_ip")?,
            dst: address("dst_ip")?,
            protocol: number("protocol")? as u8,
            src_port: number("src_port")? as u16,
            dst_port: number("dst_port")? as u16,
        };
        let reverse = Direction {
            src: forward.dst,
            dst: forward.src,
            src_port: forward.dst_port,
            dst_port: forward.src_port,
            ..forward
        };
        let back = tunnel.map(|tunnel| Tunnel { src: tunnel.dst, dst: tunnel.src, ..tunnel });
        for (tunnel, direction, packets, octets) in [
            (tunnel, forward, number("packets")?, number("bytes")?),
            (back, reverse, number("reverse_packets")?, number("reverse_bytes")?),
        ] {
            if packets == 0 && octets == 0 {
                continue;
            }
            let tunnelled = tunnel.map(|tunnel| (tunnel, direction));
            let tunnelled = tunnelled.map(|key| rows.tunnelled.entry(key).or_default());
            let all = rows.directions.entry(direction).or_default();
            for sum in tunnelled.into_iter().chain([all]) {
                sum.packets += packets;
                sum.octets += octets;
            }
        }
        rows.count += 1;
    }
    Ok(rows)
}

fn ledger_differences(ledger: &Value, expected: &Totals, rows: u64) -> Vec<String> {
    let metered: u64 = expected.directions.values().map(|sum| sum.packets).sum();
    let octets: u64 = expected.directions.values().map(|sum| sum.octets).sum();
    let mut differences: Vec<String> = [
        ("packets_seen", expected.seen),
        ("packets_metered", metered),
        ("packets_unaccounted", 0),
        ("octets_metered", octets),
        ("flows_emitted", rows),
    ]
    .into_iter()
    .filter(|(key, expected)| ledger[*key].as_u64() != Some(*expected))
    .map(|(key, expected)| format!("{key} is {}, expected {expected}", ledger[key]))
    .collect();
    for reason in ["arp", "lldp", "other", "truncated", "malformed", "unsupported"] {
        let found = ledger["packets_not_metered"][reason].as_u64().unwrap_or(0);
        let expected = expected.not_metered.get(reason).copied().unwrap_or(0);
        if found != expected {
            differences.push(format!("not metered {reason}: {found}, expected {expected}"));
        }
    }
    differences
}

fn sum_differences<K: Ord + Debug>(
    found: &BTreeMap<K, Sum>,
    expected: &BTreeMap<K, Sum>,
) -> Vec<String> {
    let mut directions: Vec<_> = found.keys().chain(expected.keys()).collect();
    directions.sort_unstable();
    directions.dedup();
    directions
        .into_iter()
        .filter(|direction| found.get(direction) != expected.get(direction))
        .map(|direction| {
            let (found, expected) = (found.get(direction), expected.get(direction));
            format!("{direction:?}: {found:?}, expected {expected:?}")
        })
        .collect()
}

fn assert_refused(output: &Output, what: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{what}: {stderr}");
    assert_eq!(stderr.trim().lines().count(), 1, "{what}: {stderr}");
}
