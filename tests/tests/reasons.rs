//! Every reason there is for a packet without a row, raised by the real agent and read from its
//! ledger. A new reason does not compile here until somebody says which scene raises it. Needs
//! root, the agent's binary, libchdb, loop devices and libfaketime.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData, MapInfo};
use aya::programs::loaded_programs;
use flow_agent::attach::PinFolder;
use flow_agent::ledger::{Entry, LostRecord};
use flow_agent::spool::LossReason;
use flow_common::table::{GenerationState, Journal, names};
use flow_common::{Lost, NotMetered};
use flow_tests::bin_path::flow_agent;
use flow_tests::damage;
use flow_tests::faketime;
use flow_tests::faulty::{Faulty, PATIENCE, batches};
use flow_tests::hooks;
use flow_tests::lab::Lab;
use flow_tests::process::{Agent, Store};
use flow_tests::rig::Rig;
use flow_tests::small_disk::SmallDisk;
use flow_tests::sql;
use flow_tests::status::{ANY_PORT, Status};
use flow_tests::tally::PacketSocket;
use flow_tests::traffic::{self, Ends};
use rustix::process::Signal;
use tempfile::TempDir;

/// What happens to an agent so that it has a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scene {
    /// A store that takes no flows until the agent ends, and no disk.
    GivenUp,
    /// Frames that are not IP, cut, wrong, filtered; flows that are not in the sample.
    Frames,
    /// A store on the metered wire.
    OwnTraffic,
    /// Tables that are far too small.
    SmallTables,
    /// A CPU without tables.
    Cpu,
    /// An interface that the kernel's table does not have.
    Stranger,
    /// SIGKILL in the midst of a drain.
    Killed,
    /// SIGKILL with flows in the cache.
    Held,
    /// A disk without room.
    FullOldest,
    /// A spool in memory that is full, and the newest have to go.
    FullNewest,
    /// A spool whose folder is gone, and a full memory.
    Disk,
    /// A segment with flipped bits.
    Flipped,
    /// A segment that was cut.
    Cut,
    /// Rows that the store refuses.
    Refused,
    /// A spool that is older than what the store remembers.
    Late,
}

/// The scene that raises it; none of what is no reason.
fn scene(entry: Entry) -> Option<Scene> {
    Some(match entry {
        Entry::NotMetered(reason) => match NotMetered::ALL[usize::from(reason)] {
            NotMetered::Arp
            | NotMetered::Lldp
            | NotMetered::Other
            | NotMetered::Truncated
            | NotMetered::Malformed
            | NotMetered::Unsupported
            | NotMetered::Filtered
            | NotMetered::NotSampled => Scene::Frames,
            NotMetered::OwnTraffic => Scene::OwnTraffic,
        },
        Entry::Lost(reason) => match Lost::ALL[usize::from(reason)] {
            Lost::RingFull => Scene::SmallTables,
            Lost::NoRegion => Scene::Cpu,
            Lost::NoInterface => Scene::Stranger,
            Lost::Crash => Scene::Killed,
        },
        Entry::LostRecord(reason) => match reason {
            LostRecord::Spool(LossReason::FullOldest) => Scene::FullOldest,
            LostRecord::Spool(LossReason::FullNewest) => Scene::FullNewest,
            LostRecord::Spool(LossReason::Error) => Scene::Disk,
            LostRecord::Spool(LossReason::Corrupt) => Scene::Flipped,
            LostRecord::Spool(LossReason::Torn) => Scene::Cut,
            LostRecord::Spool(LossReason::Undelivered) => Scene::GivenUp,
            LostRecord::Quarantined => Scene::Refused,
            LostRecord::Uncertain => Scene::Late,
            LostRecord::Crash => Scene::Held,
        },
        Entry::FragmentWithoutPorts => Scene::Frames,
        Entry::Seen
        | Entry::Metered
        | Entry::Drained
        | Entry::Recovered
        | Entry::Spooled
        | Entry::Acknowledged
        // What was put aside has its reason already.
        | Entry::Resent(_) => return None,
    })
}

/// Every entry that has a reason.
fn reasons() -> Vec<Entry> {
    let numbers = |count: usize| 0..u8::try_from(count).expect("few");
    numbers(NotMetered::COUNT)
        .map(Entry::NotMetered)
        .chain(numbers(Lost::COUNT).map(Entry::Lost))
        .chain(LostRecord::ALL.map(Entry::LostRecord))
        .chain([Entry::FragmentWithoutPorts])
        .collect()
}

/// Packets by reason in the ledger of a store.
fn of_ledger(url: &str) -> Result<BTreeMap<(String, String), u64>> {
    let sums = "SELECT stage, reason, sum(packets) FROM flow.ledger GROUP BY stage, reason";
    let rows = sql::rows(url, sums)?;
    let number = |row: Vec<String>| {
        let [stage, reason, packets] = <[String; 3]>::try_from(row).ok().context("three")?;
        Ok(((stage, reason), packets.parse()?))
    };
    rows.into_iter().map(number).collect()
}

#[test]
fn every_reason_is_raised() -> Result<()> {
    let mut entries: BTreeMap<Scene, Vec<Entry>> = BTreeMap::new();
    for entry in reasons() {
        let scene = scene(entry).with_context(|| format!("{entry:?} has no scene"))?;
        entries.entry(scene).or_default().push(entry);
    }
    // One of them waits for half a minute: the others are played meanwhile.
    let todo = Mutex::new(entries.keys().copied().rev().collect::<Vec<_>>());
    let next = || todo.lock().ok()?.pop();
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some(scene) = next() {
                    let result = play(scene).with_context(|| format!("{scene:?}"));
                    println!("{scene:?}: {result:?}");
                    results.lock().expect("nobody panics here").push((scene, result));
                }
            });
        }
    });
    let mut missing = BTreeSet::new();
    for (scene, result) in results.into_inner().expect("nobody panicked") {
        let ledger = result?;
        for entry in &entries[&scene] {
            let (stage, reason) = entry.labels();
            let packets = ledger.get(&(stage.to_owned(), reason.to_owned()));
            if packets.is_none_or(|packets| *packets == 0) {
                missing.insert(format!("{stage}{{{reason}}} ({scene:?})"));
            }
        }
    }
    ensure!(missing.is_empty(), "never raised: {missing:?}");
    Ok(())
}

type Raised = BTreeMap<(String, String), u64>;

/// Plays a scene; leaves the ledger of its store.
fn play(scene: Scene) -> Result<Raised> {
    match scene {
        Scene::GivenUp => given_up(),
        Scene::Frames => frames(),
        Scene::OwnTraffic => own_traffic(),
        Scene::SmallTables => small_tables(),
        Scene::Cpu => cpu(),
        Scene::Stranger => stranger(),
        Scene::Killed => killed(),
        Scene::Held => held(),
        Scene::FullOldest => full_oldest(),
        Scene::FullNewest => full_newest(),
        Scene::Disk => disk(),
        Scene::Flipped => damaged(damage::flip),
        Scene::Cut => damaged(damage::truncate),
        Scene::Refused => refused(),
        Scene::Late => late(),
    }
}

const FLOWS: u64 = 200;

fn given_up() -> Result<Raised> {
    let faulty = Faulty::new()?;
    let agent = faulty.agent_after(&[], "", &["--spool-dir", ""])?;
    faulty.store.sql("DETACH TABLE flow.flows");
    ask(&faulty.lab, FLOWS)?;
    agent.signal(Signal::TERM)?;
    let (code, log) = agent.ended(PATIENCE)?;
    ensure!(code == Some(1), "{code:?}: {log}");
    // Its books are given up with the rest: what it lost is in the last line of its log.
    let number = log.rsplit_once(" undelivered=").and_then(|(_, rest)| rest.split(' ').next());
    let packets = number.context("the log ends with the sums")?.parse()?;
    ensure!(packets == 2 * FLOWS, "{packets} packets: {log}");
    let reason = LostRecord::Spool(LossReason::Undelivered).label().to_owned();
    Ok([(("undelivered".to_owned(), reason), packets)].into())
}

fn ask(lab: &Lab, flows: u64) -> Result<()> {
    let ends = Ends::v4((&lab.left, 0), (&lab.right, 0), 53);
    traffic::ask_together(ends, flows, 1, 40, 200).map(drop)
}

/// Frames that are sent so many times.
const FRAMES: u8 = 20;

fn frames() -> Result<Raised> {
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

fn own_traffic() -> Result<Raised> {
    let (lab, folder) = (Lab::new()?, TempDir::with_prefix("flow-reasons-")?);
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let listen = SocketAddr::new(lab.right.v4(0), 0).to_string();
    lab.right.namespace.enter(|| {
        let more = ["--listen", listen.as_str(), "--allow-remote"];
        let store = Store::start_with(&flow_agent(), &data, &log, &more)?;
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

fn small_tables() -> Result<Raised> {
    let faulty = Faulty::new()?;
    let config = [HALF_EMPTY, "table_memory_mib = 4\n"].concat();
    let agent = faulty.agent_after(&[], &config, &["--drain-interval", "5000"])?;
    spread(&faulty)?;
    agent.stop()?;
    of_ledger(faulty.store.url())
}

/// Of configurations that need nothing more.
const HALF_EMPTY: &str = "batch.age_ms = 50\n";

/// A flow for each datagram, as fast as one thread can.
fn spread(faulty: &Faulty) -> Result<()> {
    let ends = Ends::v4((&faulty.lab.left, 0), (&faulty.lab.right, 0), 0);
    traffic::spread(ends, 100_000, 1, 40).map(drop)
}

/// A host has tables for every CPU that it may ever have, so this needs programs that were told
/// of fewer, and a test run.
fn cpu() -> Result<Raised> {
    let lost = flow_tests::one_cpu::packets_on_another()?;
    Ok([(("lost".to_owned(), Lost::NoRegion.label().to_owned()), lost)].into())
}

fn stranger() -> Result<Raised> {
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

fn killed() -> Result<Raised> {
    let pins = PathBuf::from(format!("/sys/fs/bpf/flow-test-{}-reasons", std::process::id()));
    let rig = Rig::new()?;
    let path = pins.to_str().context("UTF-8")?;
    let arguments = ["--pin-dir", path, "--drain-interval", "60000"];
    let agent = rig.agent_with(("tc", "tc"), &arguments)?;
    ask(&rig.lab, FLOWS)?;
    rig.lab.wait_quiet()?;
    agent.signal(Signal::KILL)?;
    agent.ended(PATIENCE)?;
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
fn held() -> Result<Raised> {
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
    agent.signal(Signal::KILL)?;
    agent.ended(PATIENCE)?;
    rig.agent_with(("tc", "tc"), &arguments)?.stop()?;
    drop(fs::remove_dir_all(&pins));
    of_ledger(rig.store.url())
}

fn full_newest() -> Result<Raised> {
    let faulty = Faulty::new()?;
    let config = [&batches(500), "spool.memory_mib = 1\nspool.full = 'drop_newest'\n"].concat();
    lose(&faulty, &config, &["--spool-dir", ""], LossReason::FullNewest, || Ok(()))
}

/// On a disk without room the oldest segment goes.
fn full_oldest() -> Result<Raised> {
    let disk = SmallDisk::new(6)?;
    let mut faulty = Faulty::new()?;
    faulty.folder = TempDir::with_prefix_in("flow-reasons-", disk.path())?;
    let config = [&batches(500), "spool.memory_mib = 1\nspool.segment_mib = 1\n"].concat();
    let raised = lose(&faulty, &config, &[], LossReason::FullOldest, || Ok(()));
    drop(faulty);
    raised
}

/// A store that is away until something is lost for this reason.
fn lose(
    faulty: &Faulty,
    config: &str,
    more: &[&str],
    reason: LossReason,
    before: impl FnOnce() -> Result<()>,
) -> Result<Raised> {
    let agent = faulty.agent_after(&[], config, more)?;
    faulty.proxy.refuse()?;
    before()?;
    spread(faulty)?;
    let wanted = ("undelivered".to_owned(), reason.label().to_owned());
    let mut raised = Raised::new();
    agent.wait_until("something is lost", PATIENCE, || {
        raised = of_metrics(&agent)?;
        Ok(raised.contains_key(&wanted))
    })?;
    faulty.proxy.accept()?;
    Faulty::end(agent)?;
    Ok(raised)
}

/// Packets that could not be delivered, by reason, as the running agent says.
fn of_metrics(agent: &Agent) -> Result<Raised> {
    let mut raised = Raised::new();
    for (name, packets) in Status::of(agent)?.metrics()? {
        let labels = name.strip_prefix("flow_agent_undelivered_packets_total{");
        if let Some((_, reason)) = labels.and_then(|labels| labels.split_once("reason=\"")) {
            let reason = reason.split('"').next().unwrap_or_default().to_owned();
            *raised.entry(("undelivered".to_owned(), reason)).or_default() += packets as u64;
        }
    }
    Ok(raised)
}

fn disk() -> Result<Raised> {
    let faulty = Faulty::new()?;
    let config = [&batches(500), "spool.memory_mib = 1\nspool.segment_mib = 1\n"].concat();
    // No further segment can be made where there is no folder.
    let remove = || Ok(fs::remove_dir_all(faulty.spool())?);
    lose(&faulty, &config, &[], LossReason::Error, remove)
}

fn damaged(damage: fn(&Path) -> Result<String>) -> Result<Raised> {
    let mut faulty = Faulty::new()?;
    let config = batches(20);
    faulty.leave_spool(FLOWS, FLOWS, &config)?;
    damage(&faulty.spool())?;
    Faulty::end(faulty.agent(&config)?)?;
    of_ledger(faulty.store.url())
}

fn refused() -> Result<Raised> {
    let faulty = Faulty::new()?;
    let agent = faulty.agent(HALF_EMPTY)?;
    faulty.store.sql("ALTER TABLE flow.flows ADD CONSTRAINT ours CHECK dst_port != 666");
    traffic::ask_together(
        Ends::v4((&faulty.lab.left, 0), (&faulty.lab.right, 0), 666),
        5,
        1,
        40,
        200,
    )?;
    faulty.wait_quarantined(&agent, 5)?;
    Faulty::end(agent)?;
    of_ledger(faulty.store.url())
}

/// The next agent starts a month later.
fn late() -> Result<Raised> {
    const MONTH: Duration = Duration::from_hours(31 * 24);
    let mut faulty = Faulty::new()?;
    let config = batches(20);
    faulty.leave_spool(FLOWS, FLOWS, &config)?;
    let clock = faulty.folder.path().join("clock");
    fs::write(&clock, format!("+{}\n", MONTH.as_secs()))?;
    let words = faketime::clocked(&clock)?;
    let agent = faulty.agent_after(&words.each_ref().map(String::as_str), &config, &[])?;
    Faulty::end(agent)?;
    of_ledger(faulty.store.url())
}
