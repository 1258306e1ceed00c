//! Scenes on the way from the wire into the cache.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use aya::maps::{Array, Map, MapData, MapInfo};
use aya::programs::loaded_programs;
use flow_agent::attach::PinFolder;
use flow_common::Lost;
use flow_common::table::{GenerationState, Journal, names};
use flow_tests::bin_path::flow_agent;
use flow_tests::faulty::{Faulty, PATIENCE};
use flow_tests::hooks;
use flow_tests::lab::Lab;
use flow_tests::process::{Agent, Store};
use flow_tests::rig::Rig;
use flow_tests::sql;
use flow_tests::status::{ANY_PORT, Status};
use flow_tests::tally::PacketSocket;
use flow_tests::traffic::{self, Ends};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{FLOWS, HALF_EMPTY, Raised, ask, of_ledger, spread};

/// Frames that are sent so many times.
const FRAMES: u8 = 20;

pub fn frames() -> Result<Raised> {
    let faulty = Faulty::new()?;
    let agent =
        faulty.agent("filter.exclude_ports = [514]\nsampling = { mode = 'flow', rate = 2 }\n")?;
    let (left, right) = (&faulty.lab.left, &faulty.lab.right);
    // Half of many flows are not in the sample.
    ask(&faulty.lab, FLOWS)?;
    traffic::stream(Ends::v4((left, 0), (right, 0), 514), 10, 100)?;
    let to = [left.mac(), right.mac()].concat();
    let frame =
        |ethertype: u16, payload: &[u8]| [&to, &ethertype.to_be_bytes()[..], payload].concat();
    let (IpAddr::V4(from), IpAddr::V4(there)) = (right.v4(1), left.v4(1)) else { unreachable!() };
    let mut ip = vec![0x45, 0, 0, 120, 0, 0, 0, 0, 64, 17, 0, 0];
    ip.extend(from.octets());
    ip.extend(there.octets());
    ip.resize(120, 0x55);
    let malformed = [&[0x42], &ip[1..]].concat();
    let tags = [0, 1, 0x81, 0].repeat(6);
    right.namespace.enter(|| {
        let socket = PacketSocket::open(right.interface)?;
        for number in 0..FRAMES {
            socket.send(&frame(0x0806, &[0; 46]))?;
            socket.send(&frame(0x88cc, &[0; 46]))?;
            socket.send(&frame(0x88b5, &[0; 46]))?;
            socket.send(&frame(0x0800, &ip[..10]))?;
            socket.send(&frame(0x0800, &malformed))?;
            socket.send(&frame(0x8100, &[&tags[..], &[0, 1, 8, 0], &ip[..]].concat()))?;
            // A later fragment whose first nobody has seen, of another host each.
            let mut orphan = ip.clone();
            (orphan[5], orphan[7], orphan[15]) = (number, 9, 100 + number);
            socket.send(&frame(0x0800, &orphan))?;
        }
        Ok(())
    })?;
    faulty.lab.wait_quiet()?;
    agent.stop()?;
    of_ledger(faulty.store.url())
}

pub fn own_traffic() -> Result<Raised> {
    let (lab, folder) = (Lab::new()?, TempDir::with_prefix("flow-reasons-")?);
    lab.right.namespace.enter(|| {
        let store = Store::start_for_others(folder.path(), lab.right.v4(0))?;
        lab.left.namespace.enter(|| {
            let interface = format!("{}:tc", lab.left.interface);
            let arguments = ["--interface", &interface, "--store", store.url()];
            let hasty = ["--drain-interval", "50", "--idle-timeout", "1"];
            let agent = Agent::start(&flow_agent(), &[&arguments[..], &hasty].concat())?;
            // What it says to the store is counted from the next drain on.
            for rows in [0, FLOWS] {
                ask(&lab, FLOWS)?;
                let count = || sql::number(store.url(), "SELECT count() FROM flow.flows");
                agent.wait_until("rows are stored", PATIENCE, || Ok(count()? > rows))?;
            }
            agent.stop()?;
            of_ledger(store.url())
        })
    })
}

pub fn small_tables() -> Result<Raised> {
    let faulty = Faulty::new()?;
    let config = [HALF_EMPTY, "table_memory_mib = 4\n"].concat();
    let agent = faulty.agent_after(&[], &config, &[])?;
    // One that runs may empty the ring as fast as it is filled.
    agent.signal(Signal::STOP)?;
    let sent = spread(&faulty);
    agent.signal(Signal::CONT)?;
    sent?;
    agent.stop()?;
    of_ledger(faulty.store.url())
}

/// A host has tables for every CPU that it may ever have, so this needs programs that were told
/// of fewer, and a test run.
pub fn cpu() -> Result<Raised> {
    let lost = flow_tests::one_cpu::packets_on_another()?;
    Ok([(("lost".to_owned(), Lost::NoRegion.label().to_owned()), lost)].into())
}

pub fn stranger() -> Result<Raised> {
    let rig = Rig::new()?;
    let left = &rig.lab.left;
    let interface = left.spec("tc");
    let agent =
        Agent::start(&flow_agent(), &["--interface", &interface, "--store", rig.store.url()])?;
    let ids = hooks::program_ids(left)?;
    let programs = loaded_programs().collect::<Result<Vec<_>, _>>()?;
    let program = programs.iter().find(|program| ids.contains(&program.id()));
    let maps = program.context("it is attached")?.map_ids()?.context("its maps")?;
    let infos = maps.into_iter().map(MapInfo::from_id).collect::<Result<Vec<_>, _>>()?;
    let map = infos.iter().find(|map| map.name_as_str() == Some("INTERFACES"));
    let map = MapData::from_id(map.context("there is a table of interfaces")?.id())?;
    let mut map: Array<MapData, u32> = Map::from_map_data(map)?.try_into()?;
    for index in 0..map.len() {
        map.set(index, 0, 0)?;
    }
    ask(&rig.lab, FLOWS)?;
    agent.stop()?;
    of_ledger(rig.store.url())
}

pub fn killed() -> Result<Raised> {
    let pins = PathBuf::from(format!("/sys/fs/bpf/flow-test-{}-reasons", std::process::id()));
    let rig = Rig::new()?;
    let path = pins.to_str().context("UTF-8")?;
    let arguments = ["--pin-dir", path, "--drain-interval", "60000"];
    let agent = rig.agent_with(("tc", "tc"), &arguments)?;
    ask(&rig.lab, FLOWS)?;
    rig.lab.wait_quiet()?;
    agent.kill()?;
    // As one leaves them that is killed between a flip and the end of the drain.
    for folder in PinFolder::abandoned(&pins)? {
        let map = Map::from_map_data(MapData::from_pin(folder.table(names::JOURNAL))?)?;
        let mut map: Array<MapData, [u32; size_of::<Journal>() / 4]> = map.try_into()?;
        let mut journal: Journal = bytemuck::cast(map.get(&0, 0)?);
        journal.states = [GenerationState::Draining as u32; 2];
        map.set(0, bytemuck::cast::<_, [u32; size_of::<Journal>() / 4]>(journal), 0)?;
    }
    rig.agent_with(("tc", "tc"), &arguments)?.stop()?;
    drop(fs::remove_dir_all(&pins));
    of_ledger(rig.store.url())
}

/// What was drained and in no batch yet is gone with the agent.
pub fn held() -> Result<Raised> {
    let pins = PathBuf::from(format!("/sys/fs/bpf/flow-test-{}-held", std::process::id()));
    let (rig, folder) = (Rig::new()?, TempDir::new()?);
    let spool = folder.path().join("spool");
    let (path, spool) = (pins.to_str().context("UTF-8")?, spool.to_str().context("UTF-8")?);
    let arguments = ["--pin-dir", path, "--spool-dir", spool, "--drain-interval", "50"];
    let agent = rig.agent_with(("tc", "tc"), &[&arguments[..], &ANY_PORT].concat())?;
    ask(&rig.lab, FLOWS)?;
    let status = Status::of(&agent)?;
    agent.wait_until("all is drained", PATIENCE, || {
        Ok(status.json("/api/v1/ledger")?["total"]["drained"]["packets"] == 4 * FLOWS)
    })?;
    agent.kill()?;
    rig.agent_with(("tc", "tc"), &arguments)?.stop()?;
    drop(fs::remove_dir_all(&pins));
    of_ledger(rig.store.url())
}
