//! One measurement: lab, store, agent and sender, and what became of every packet.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use flow_agent::cache::Timeouts;
use flow_tests::lab::Lab;
use flow_tests::ledger::Ledger;
use flow_tests::peak::Peak;
use flow_tests::process::{Agent, Store};
use flow_tests::sql;
use flow_tests::status::{ANY_PORT, Status};
use tempfile::TempDir;

use crate::cpu::Cpu;
use crate::figures::Figures;
use crate::sender::Sender;
use crate::shape::{Shape, Work};

/// What is looked at when measuring begins and when it ends.
struct Look {
    at: Instant,
    agent: Cpu,
    store: Cpu,
    came: u64,
    rows: u64,
}

/// Measures a shape with this work.
pub fn measure(
    agent: &Path,
    shape: Shape,
    work: Work,
    time: Duration,
    more: &[String],
) -> Result<Figures> {
    let lab = Lab::new()?;
    let sender = Sender::new(&lab, work)?;
    let folder = TempDir::with_prefix("flow-load-")?;
    let store = Store::start(agent, &folder.path().join("data"), &folder.path().join("store.log"))?;
    let interface = lab.left.spec("xdp");
    let mut arguments = vec!["--interface", &interface, "--store", store.url()];
    arguments.extend(ANY_PORT);
    arguments.extend(more.iter().map(String::as_str));
    let agent = Agent::start(agent, &arguments)?;
    let status = Status::of(&agent)?;
    let before = lab.left.received()?.0;
    let look = || -> Result<Look> {
        Ok(Look {
            at: Instant::now(),
            agent: Cpu::of(agent.id())?,
            store: Cpu::of(store.pid())?,
            came: lab.left.received()?.0,
            rows: sql::number(store.url(), "SELECT count() FROM flow.flows")?,
        })
    };
    let stop = AtomicBool::new(false);
    let peak = Peak::of(agent.id());
    let measured = thread::scope(|scope| {
        let (ended, has_ended) = mpsc::channel();
        let (lab, stop, sender) = (&lab, &stop, &sender);
        let sending = scope.spawn(move || {
            let sent = sender.send(lab, stop);
            // It is still waited for, unless what waits has failed.
            let _ = ended.send(());
            sent
        });
        let measured = (|| {
            // An early end is told below, with its reason.
            let _ = has_ended.recv_timeout(shape.warm_up());
            let first = look()?;
            let _ = has_ended.recv_timeout(time);
            let latency = status.json("/api/v1/latency")?;
            Ok((first, look()?, latency))
        })();
        stop.store(true, Ordering::Relaxed);
        sending.join().ok().context("the sender has panicked")??;
        measured
    });
    let (first, last, latency) =
        measured.map_err(|error: anyhow::Error| error.context(agent.log()))?;
    let memory = peak.stop()?;
    lab.wait_quiet()?;
    let came = lab.left.received()?.0 - before;
    let log = agent.stop()?;

    let ledger = Ledger::read(store.url(), lab.left.interface)?;
    let stored = "SELECT sum(packets + reverse_packets) FROM flow.flows";
    let stored = sql::number(store.url(), stored).with_context(|| log)?;
    let signed = |count: u64| count.cast_signed();
    let mut unaccounted = ledger.unaccounted().0.abs()
        + ledger.in_flight().0.abs()
        + (signed(ledger.acknowledged.packets) - signed(stored)).abs();
    if work != Work::Connections {
        // Nothing leaves: all that was seen has come.
        unaccounted += (signed(came) - signed(ledger.seen.packets)).abs();
    }
    let rows = sql::number(store.url(), "SELECT count() FROM flow.flows")?;
    let lost = ledger.lost.packets + ledger.undelivered.packets + ledger.quarantined.packets;
    store.stop()?;

    let seconds = (last.at - first.at).as_secs_f64();
    let (agent, store) = (last.agent.since(first.agent), last.store.since(first.store));
    let packets_per_s = (last.came - first.came) as f64 / seconds;
    let rows_in = (last.rows - first.rows) as f64;
    let stage = |stage: &str, quantile: &str, unit_ns: f64| {
        latency["stages"][stage][quantile].as_f64().map_or(f64::NAN, |ns| rounded(ns / unit_ns))
    };
    let packet_to_row_p99_s = stage("packet_to_acknowledged", "p99", 1e9);
    let linger_s = Timeouts::default().linger.as_secs_f64();
    let user_percent = agent.user_s / seconds * 100.0;
    Ok(Figures {
        bench: "load",
        shape: shape.label(),
        seconds: rounded(seconds),
        packets_per_s: packets_per_s.round(),
        asked_packets_per_s: if let Work::Packets { rate, .. } = work { rate } else { None },
        packets: came,
        unaccounted,
        lost,
        rows,
        rows_per_s: (rows_in / seconds).round(),
        agent_user_percent: rounded(user_percent),
        agent_system_percent: rounded(agent.system_s / seconds * 100.0),
        agent_user_percent_per_mpps: rounded(user_percent / packets_per_s * 1e6),
        agent_cpu_s_per_million_rows: rounded((agent.user_s + agent.system_s) / rows_in * 1e6),
        store_percent: rounded((store.user_s + store.system_s) / seconds * 100.0),
        memory_mib: rounded(memory as f64 / f64::from(1 << 20)),
        batch_p99_ms: stage("batch", "p99", 1e6),
        insert_p99_ms: stage("insert", "p99", 1e6),
        packet_to_row_p50_s: stage("packet_to_acknowledged", "p50", 1e9),
        packet_to_row_p99_s,
        linger_to_row_p99_s: rounded(packet_to_row_p99_s - linger_s),
    })
}

/// Two decimals are more than a measurement has.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
