//! A process that is killed at any step, against what really happened in the world that stays.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flow_common::Count;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::ledger::{Ledger, LostRecord};

const TABLES: u32 = 7;

/// What outlives the process: its memory, the journal of the tables, the spool.
#[derive(Debug, Default)]
struct World {
    /// Steps until the process is killed; what it does later has no effect.
    left: u32,
    pages: BTreeMap<u32, Page>,
    draining: bool,
    /// Flow batches that wait, with their interfaces and packets.
    flows: BTreeMap<Uuid, (u8, u64)>,
    /// The same of the table `ledger`.
    books: BTreeMap<Uuid, Counts>,
    /// What batches of that table in the store say, and what flow batches there have.
    written: Counts,
    stored: u64,
    drained: u64,
}

#[derive(Clone, Debug, Default)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One step of the process.
    fn step(&self, act: impl FnOnce(&mut World)) {
        let mut world = self.world();
        if world.left > 0 {
            world.left -= 1;
            act(&mut world);
        }
    }

    fn is_alive(&self) -> bool {
        self.world().left > 0
    }
}

impl Memory for Shared {
    fn pages(&self) -> u32 {
        3 * (1 + 2 * 2)
    }

    fn read(&self, page: u32) -> io::Result<Page> {
        Ok(self.world().pages.get(&page).copied().unwrap_or([0; PAGE]))
    }

    fn write(&mut self, page: u32, octets: &Page) -> io::Result<()> {
        self.step(|world| {
            world.pages.insert(page, *octets);
        });
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Act {
    Drain(u8, u64),
    /// At most so many of the packets that are in no batch.
    Spool(u8, u64),
    Deliver,
    Write,
    DeliverBooks,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => (0..60_u8, 1..1000_u64).prop_map(|(interface, packets)| Act::Drain(interface, packets)),
        2 => (0..60_u8, 1..1000_u64).prop_map(|(number, packets)| Act::Spool(number, packets)),
        2 => Just(Act::Deliver),
        1 => Just(Act::Write),
        1 => Just(Act::DeliverBooks),
    ];
    prop::collection::vec(act, 1..40)
}

/// Names long enough that many of them do not fit into the slots.
fn interface(number: u8) -> Arc<str> {
    format!("{}/veth{number}", "namespace".repeat(14)).into()
}

fn packets(packets: u64) -> Count {
    Count { packets, octets: packets * 100 }
}

/// Lets a process do this; it is killed at some step.
fn live(shared: &Shared, acts: &[Act], beginning: Beginning) {
    let ledger = Ledger::default();
    ledger.keep(Estate::new(Box::new(shared.clone()), beginning, &Counts::new()));
    let mut cache: BTreeMap<u8, u64> = BTreeMap::new();
    for act in acts {
        match act {
            Act::Drain(number, count) => {
                shared.step(|world| world.draining = true);
                let line = |entry| ((interface(*number), entry), packets(*count));
                let counts = Counts::from([line(Entry::Seen), line(Entry::Drained)]);
                ledger.post(&counts, Witness::Tables(TABLES), || {
                    shared.step(|world| {
                        world.draining = false;
                        world.drained += count;
                    });
                });
                *cache.entry(*number).or_default() += count;
            }
            Act::Spool(number, most) => {
                let cached = cache.entry(*number).or_default();
                let (id, count) = (Uuid::now_v7(), *most.min(cached));
                *cached -= count;
                shared.step(|world| {
                    world.flows.insert(id, (*number, count));
                });
            }
            Act::Deliver => {
                let first = shared.world().flows.first_key_value().map(|(id, it)| (*id, *it));
                let Some((id, (number, count))) = first else { continue };
                // The store has it now, and the spool has it still.
                let line = (interface(number), Entry::Acknowledged);
                let counts = Counts::from([(line, packets(count))]);
                ledger.post(&counts, Witness::Batch(id), || {
                    shared.step(|world| {
                        world.flows.remove(&id);
                        world.stored += count;
                    });
                });
            }
            Act::Write => {
                let id = Uuid::now_v7();
                let counts = ledger.take(id);
                shared.step(|world| drop(world.books.insert(id, counts)));
            }
            Act::DeliverBooks => {
                let Some((id, counts)) =
                    shared.world().books.first_key_value().map(|(i, c)| (*i, c.clone()))
                else {
                    continue;
                };
                ledger.post(&Counts::new(), Witness::Books(id), || {
                    shared.step(|world| {
                        world.books.remove(&id);
                        merge(&mut world.written, &counts);
                    });
                });
            }
        }
        if !shared.is_alive() {
            return;
        }
    }
}

fn merge(all: &mut Counts, counts: &Counts) {
    for (line, count) in counts {
        all.entry(line.clone()).or_default().merge(*count);
    }
}

fn sum(counts: &Counts, wanted: Entry) -> u64 {
    counts.iter().filter(|((_, entry), _)| *entry == wanted).map(|(_, count)| count.packets).sum()
}

fn will(shared: &Shared) -> Option<Will> {
    let draining = shared.world().draining;
    let remains = Remains::read(Box::new(shared.clone()), |instance| {
        assert_eq!(instance, TABLES);
        !draining
    });
    let remains = remains.expect("it is readable")?;
    let waits = |id| {
        let world = shared.world();
        world.flows.contains_key(&id) || world.books.contains_key(&id)
    };
    Some(remains.will(waits))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Every packet that left the kernel is written down or in the will, and held or stored.
    #[test]
    fn a_will_says_what_was_not_written_and_what_was_held(acts in acts(), steps in 0..200_u32) {
        let shared = Shared::default();
        shared.world().left = steps;
        live(&shared, &acts, Beginning { id: 1, ..Beginning::default() });
        shared.world().left = 0;
        let Some(will) = will(&shared) else {
            prop_assert_eq!(shared.world().drained, 0);
            return Ok(());
        };
        let world = shared.world();
        let mut written = world.written.clone();
        world.books.values().for_each(|counts| merge(&mut written, counts));
        merge(&mut written, &will.unwritten);
        for entry in [Entry::Seen, Entry::Drained] {
            prop_assert_eq!(sum(&written, entry), world.drained, "{:?}", entry);
        }
        prop_assert_eq!(sum(&written, Entry::Acknowledged), world.stored);
        let held: u64 = will.held.values().map(|count| count.packets).sum();
        prop_assert_eq!(held, world.drained - world.stored);
    }
}

/// By interface, to the packet and octet.
#[test]
fn what_is_held_is_what_was_drained_and_is_not_stored() {
    let acts =
        [Act::Drain(0, 50), Act::Drain(3, 9), Act::Spool(0, 20), Act::Deliver, Act::Drain(0, 5)];
    let shared = Shared::default();
    shared.world().left = u32::MAX;
    live(&shared, &acts, Beginning::default());
    let held = will(&shared).expect("it lived").held;
    let expected = [(interface(0), packets(35)), (interface(3), packets(9))];
    assert_eq!(held, BTreeMap::from(expected));
}

/// What was inherited is written down by the heir, and not held by it.
#[test]
fn an_heir_that_is_killed_leaves_what_it_had_inherited() {
    let lost = Counts::from([((interface(1), Entry::Spooled), packets(8))]);
    let beginning = Beginning { id: 2, inherited: (&lost).into(), ..Beginning::default() };
    let shared = Shared::default();
    shared.world().left = u32::MAX;
    live(&shared, &[Act::Drain(1, 3)], beginning.clone());
    let left = will(&shared).expect("it lived");
    assert_eq!(sum(&left.unwritten, Entry::Spooled), 8);
    assert_eq!(left.held, BTreeMap::from([(interface(1), packets(3))]));
    let remains = Remains::read(Box::new(shared.clone()), |_| true).expect("readable");
    assert_eq!(remains.expect("it lived").beginning(), &beginning);
}

/// Whether it was dropped at once or after others had been written.
#[test]
fn what_a_dropped_batch_of_books_said_is_unwritten_until_another_says_it() {
    for others in [0, 2] {
        let shared = Shared::default();
        shared.world().left = u32::MAX;
        let ledger = Ledger::default();
        ledger.keep(Estate::new(Box::new(shared.clone()), Beginning::default(), &Counts::new()));
        let seen = |count| Counts::from([((interface(1), Entry::Seen), packets(count))]);
        let write = || {
            let id = Uuid::now_v7();
            let counts = ledger.take(id);
            shared.world().books.insert(id, counts);
            id
        };
        let unwritten = || sum(&will(&shared).expect("it lives").unwritten, Entry::Seen);
        ledger.post(&seen(5), Witness::None, || ());
        let dropped = write();
        for _ in 0..others {
            ledger.post(&seen(7), Witness::None, || ());
            write();
        }
        assert_eq!(unwritten(), 0);
        let counts = shared.world().books.remove(&dropped).expect("it was written");
        ledger.inherit(&counts);
        assert_eq!(unwritten(), 5);
        write();
        assert_eq!(unwritten(), 0);
        assert_eq!(ledger.totals()[&Entry::Seen], packets(5 + others * 7), "counted once");
    }
}

#[test]
fn every_entry_has_a_number_of_its_own() {
    let mut codes = BTreeMap::new();
    for entry in Entry::all() {
        assert_eq!(codes.insert(entry.code(), entry), None, "{entry:?}");
        assert_eq!(Entry::from_code(entry.code()), Some(entry));
    }
    assert!(codes.values().any(|entry| *entry == Entry::LostRecord(LostRecord::Crash)));
    assert_eq!(Entry::from_code(255), None);
}

#[test]
fn what_another_version_wrote_is_refused() {
    let shared = Shared::default();
    shared.world().left = u32::MAX;
    let mut page = [0; PAGE];
    page[0] = 9;
    shared.world().pages.insert(0, page);
    assert!(Remains::read(Box::new(shared), |_| true).is_err());
}
