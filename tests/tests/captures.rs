//! What the detectors say of the records of captures: of ordinary traffic, nothing loud.
//!
//! On captures built here, or every real capture there is ([`corpus::folder`]).
//! Needs the `flow-agent` binary, as `corpus.rs`.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flow_agent::analytics::{AnalyticsConfig, Engine, Kind, mapped};
use flow_agent::names::Names;
use flow_agent::record::{FlowEndReason, FlowRecord, InitiatorBy};
use flow_common::Direction;
use flow_tests::bin_path::flow_agent;
use flow_tests::corpus;
use flow_tests::wild::{self, Dice};
use serde_json::Value;

#[test]
fn captures_of_ordinary_traffic_hold_no_scan_and_no_flood() -> Result<()> {
    let built = tempfile::tempdir()?;
    let folder = if let Some(folder) = corpus::folder() {
        folder
    } else {
        let frames = wild::frames(&mut Dice::new(4), 1, 5_000);
        std::fs::write(built.path().join("wild.pcap"), wild::pcap(1, &frames))?;
        built.path().to_owned()
    };
    let (mut records, mut loud) = (0, Vec::new());
    let captures = corpus::captures(&folder);
    for file in &captures {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let flows = replay(file, &name)?;
        // What no records come of has nothing to say.
        ensure!(flows.is_empty() == SILENT.contains(&name.as_str()), "{name}: {}", flows.len());
        records += flows.len();
        for (kind, message) in said(flows) {
            println!("{name}: {} {message}", kind.label());
            // What is new is new in a capture; the rest would wake somebody.
            let quiet = matches!(kind, Kind::NewListener | Kind::NewDevice);
            if !quiet {
                loud.push(format!("{name}: {message}"));
            }
        }
    }
    println!("{records} records of {} captures", captures.len());
    ensure!(loud.is_empty(), "{}", loud.join("\n"));
    Ok(())
}

/// Kinds and messages, with the clock of the capture.
fn said(mut flows: Vec<FlowRecord>) -> Vec<(Kind, String)> {
    flows.sort_by_key(|record| record.end_ns);
    let Some(start_ns) = flows.first().map(|record| record.start_ns) else { return Vec::new() };
    let config = AnalyticsConfig { learning: Duration::ZERO, ..AnalyticsConfig::default() };
    let mut engine = Engine::new(config, start_ns);
    let names = Names::new("capture", &["any"]);
    let mut now_ns = start_ns;
    for record in flows {
        now_ns = now_ns.max(record.end_ns);
        engine.observe(&[record], &names, now_ns);
        engine.tick(now_ns);
    }
    engine.finish(now_ns);
    let events = engine.take().events.into_iter().filter(|event| event.revision == 1);
    events.map(|event| (event.finding.kind, event.message)).collect()
}

/// Captures that are refused, with the reason.
const REFUSED: [(&str, &str); 1] =
    [("someip_sd_sample.pcap", "link type PPI (192) of interface 'someip_sd_sample.pcap'")];

/// Captures without a record: the one above, and one that is cut in its first block.
const SILENT: [&str; 2] = [REFUSED[0].0, "fuzz-2021-10-13.pcap"];

/// Its records; none of one that is to be refused, and is.
fn replay(file: &Path, name: &str) -> Result<Vec<FlowRecord>> {
    let output = Command::new(flow_agent())
        .args(["replay", "--output", "jsonl:-"])
        .arg(file)
        .output()
        .context("flow-agent cannot be started")?;
    // A capture that is cut is replayed up to there.
    let (status, said) = (output.status, String::from_utf8_lossy(&output.stderr));
    let refused = REFUSED.iter().find(|(refused, _)| *refused == name);
    let expected = refused.map_or((Some(0), ""), |(_, reason)| (Some(2), *reason));
    ensure!(
        status.code() == expected.0 && said.contains(expected.1),
        "{name}: {status}, not {expected:?}: {said}"
    );
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(|line| record(&serde_json::from_str(line)?)).collect()
}

/// The record that a line was.
fn record(line: &Value) -> Result<FlowRecord> {
    let number = |key: &str| line[key].as_u64().with_context(|| format!("{key} of {line}"));
    let text = |key: &str| line[key].as_str().with_context(|| format!("{key} of {line}"));
    let time = |key: &str| -> Result<u64> {
        let time: jiff::Timestamp = text(key)?.parse()?;
        Ok(u64::try_from(time.as_nanosecond()).unwrap_or(0))
    };
    let address = |key: &str| -> Result<[u8; 16]> { Ok(mapped(text(key)?.parse::<IpAddr>()?)) };
    Ok(FlowRecord {
        start_ns: time("flow_start")?,
        end_ns: time("flow_end")?,
        interface: 1,
        direction: Direction::Unknown,
        src: address("src_ip")?,
        dst: address("dst_ip")?,
        src_port: number("src_port")? as u16,
        dst_port: number("dst_port")? as u16,
        protocol: number("protocol")? as u8,
        icmp_type: number("icmp_type")? as u8,
        icmp_code: number("icmp_code")? as u8,
        vlan_id: number("vlan_id")? as u16,
        inner_vlan_id: number("inner_vlan_id")? as u16,
        packets: number("packets")?,
        octets: number("bytes")?,
        reverse_packets: number("reverse_packets")?,
        reverse_octets: number("reverse_bytes")?,
        tcp_flags: number("tcp_flags")? as u8,
        reverse_tcp_flags: number("reverse_tcp_flags")? as u8,
        dscp: number("dscp")? as u8,
        min_ttl: number("min_ttl")? as u8,
        max_ttl: number("max_ttl")? as u8,
        tunnel: None,
        handshake_rtt_ns: number("handshake_rtt_ns")?,
        retransmits: number("retransmits")? as u32,
        end_reason: match text("flow_end_reason")? {
            "active_timeout" => FlowEndReason::ActiveTimeout,
            "end_of_flow" => FlowEndReason::EndOfFlow,
            _ => FlowEndReason::IdleTimeout,
        },
        initiator_by: match text("initiator_by")? {
            "syn" => InitiatorBy::Syn,
            "icmp" => InitiatorBy::Icmp,
            "service_port" => InitiatorBy::ServicePort,
            _ => InitiatorBy::FirstPacket,
        },
        sampling: number("sampling")? as u32,
    })
}
