//! Every reason there is for a packet without a row, raised by the real agent and read from its
//! ledger. A new reason does not compile here until somebody says which scene raises it. Needs
//! root, the agent's binary, libchdb, loop devices and libfaketime.

mod delivery;
mod metering;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use flow_agent::ledger::{Entry, LostRecord};
use flow_agent::spool::LossReason;
use flow_common::{Lost, NotMetered};
use flow_tests::damage;
use flow_tests::faulty::Faulty;
use flow_tests::lab::Lab;
use flow_tests::sql;
use flow_tests::traffic::{self, Ends};

/// Packets by stage and reason.
type Raised = BTreeMap<(String, String), u64>;

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

/// Plays a scene; leaves the ledger of its store.
fn play(scene: Scene) -> Result<Raised> {
    match scene {
        Scene::GivenUp => delivery::given_up(),
        Scene::Frames => metering::frames(),
        Scene::OwnTraffic => metering::own_traffic(),
        Scene::SmallTables => metering::small_tables(),
        Scene::Cpu => metering::cpu(),
        Scene::Stranger => metering::stranger(),
        Scene::Killed => metering::killed(),
        Scene::Held => metering::held(),
        Scene::FullOldest => delivery::full_oldest(),
        Scene::FullNewest => delivery::full_newest(),
        Scene::Disk => delivery::disk(),
        Scene::Flipped => delivery::damaged(damage::flip),
        Scene::Cut => delivery::damaged(damage::truncate),
        Scene::Refused => delivery::refused(),
        Scene::Late => delivery::late(),
    }
}

/// Packets by reason in the ledger of a store.
fn of_ledger(url: &str) -> Result<Raised> {
    let sums = "SELECT stage, reason, sum(packets) FROM flow.ledger GROUP BY stage, reason";
    let rows = sql::rows(url, sums)?;
    let number = |row: Vec<String>| {
        let [stage, reason, packets] = <[String; 3]>::try_from(row).ok().context("three")?;
        Ok(((stage, reason), packets.parse()?))
    };
    rows.into_iter().map(number).collect()
}

const FLOWS: u64 = 200;

fn ask(lab: &Lab, flows: u64) -> Result<()> {
    let ends = Ends::v4((&lab.left, 0), (&lab.right, 0), 53);
    traffic::ask_together(ends, flows, 1, 40, 200).map(drop)
}

/// Of configurations that need nothing more.
const HALF_EMPTY: &str = "batch.age_ms = 50\n";

/// A flow for each datagram, as fast as one thread can.
fn spread(faulty: &Faulty) -> Result<()> {
    let ends = Ends::v4((&faulty.lab.left, 0), (&faulty.lab.right, 0), 0);
    traffic::spread(ends, 100_000, 1, 40).map(drop)
}
