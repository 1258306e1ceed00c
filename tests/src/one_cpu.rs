//! The shipped programs with tables for one CPU, on a host that has more.

use anyhow::{Context, Result, ensure};
use aya::programs::{TestRun, TestRunOptions};
use flow_agent::attach::{Kernel, TableSize};
use flow_agent::drain::Drain;
use flow_common::Lost;
use flow_common::table::InterfaceEntry;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Runs a packet on another CPU; how many were lost for lack of tables.
pub fn packets_on_another() -> Result<u64> {
    let size = TableSize { cpus: 1, sets_per_region: 256, interfaces: 16, tunnels: false };
    let mut kernel = Kernel::load(size, 7)?;
    // Test runs say that packets come from `lo`.
    kernel.set_interface(1, InterfaceEntry::ethernet(1))?;
    let mut drain = Drain::new(&mut kernel, 1)?;
    let before = sched_getaffinity(None)?;
    let other = (1..CpuSet::MAX_CPU).find(|cpu| before.is_set(*cpu));
    let mut only = CpuSet::new();
    only.set(other.context("this needs a second CPU")?);
    sched_setaffinity(None, &only)?;
    let mut frame = Vec::new();
    let packet = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]);
    packet.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(4000, 53).write(&mut frame, &[0; 100])?;
    let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::default() };
    let run = kernel.xdp()?.test_run(options);
    sched_setaffinity(None, &before)?;
    run?;
    let mut deltas = Vec::new();
    let drained = drain.drain(flow_agent::clock::wall_clock, &mut deltas)?;
    ensure!(deltas.is_empty(), "it has a flow: {deltas:?}");
    Ok(drained.balances[1].lost[Lost::NoRegion as usize].packets)
}
