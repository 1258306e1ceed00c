//! What a shard is given to do, step by step, by hand.

use std::net::IpAddr;

use super::*;
use crate::bench::updates::{START_NS, updates};
use crate::cache::{Limits, Timeouts};

/// Flows that are three slices, and as many again.
const FLOWS: u32 = 150_000;

fn control(shards: usize) -> (CacheControl, Vec<Receiver<Order>>) {
    CacheControl::new(Arc::new(Shared::new(shards, 1_000_000, StatsLevel::Counters)), 5)
}

fn shard(flows: Range<u32>) -> Shard {
    let mut shard = Shard::new(Limits::new(1_000_000, Timeouts::default()), 1);
    add(&mut shard, flows);
    shard
}

fn add(shard: &mut Shard, flows: Range<u32>) {
    shard.update_all(updates(&flows.collect::<Vec<_>>(), START_NS, 1), &mut Vec::new());
}

/// What hooks were told.
fn told(control: &CacheControl) -> Receiver<Invalidated> {
    let (sender, told) = crossbeam::channel::unbounded();
    let hook: Hook = Box::new(move |_, _, done| sender.send(*done).expect("it is read"));
    control.on_invalidation(hook);
    told
}

/// Does what waits for a shard; between two steps come updates of other flows, and memory
/// pressure. Returns the steps and what left.
fn work(shard: &mut Shard, orders: &Receiver<Order>) -> (u32, Vec<FlowRecord>) {
    let (mut steps, mut left, moment) = (0, Vec::new(), Moment::default());
    for mut order in orders.try_iter() {
        shard.hold_places(true);
        loop {
            let mut out = Vec::new();
            let progress = order(shard, &mut out, moment);
            assert!(out.len() <= 1024, "{} records wait", out.len());
            left.append(&mut out);
            steps += 1;
            if progress.is_done() {
                break;
            }
            add(shard, FLOWS + steps..FLOWS + steps + 1);
            shard.resize(shard.len() - 1);
            while shard.shed(1, 0, &mut left) {}
            shard.resize(1_000_000);
        }
        shard.hold_places(false);
    }
    (steps, left)
}

#[test]
fn all_flows_are_looked_at_in_slices_with_updates_between() {
    let ((control, orders), mut shard) = (control(1), shard(0..FLOWS));
    let query = |flow: u32| FlowQuery {
        src: IpAddr::from(flow.to_be_bytes()),
        dst: IpAddr::from([10, 0, 0, 1]),
        src_port: None,
        dst_port: None,
        protocol: None,
    };
    let patience = Duration::from_secs(60);
    std::thread::scope(|scope| {
        let asker = scope.spawn(|| {
            let found = control.find(&query(FLOWS - 1), patience).expect("answered");
            let details = control.details(patience).expect("answered");
            (found, details, control.initiators(100_000, patience).expect("answered"))
        });
        let mut steps = 0;
        while !asker.is_finished() {
            match work(&mut shard, &orders[0]).0 {
                0 => std::thread::yield_now(),
                taken => steps += taken,
            }
        }
        let (found, details, initiators) = asker.join().expect("answered");
        assert_eq!(found.len(), 1);
        assert!((FLOWS as u64 - 9..=FLOWS as u64).contains(&details.idle_ms.len()));
        assert_eq!(initiators.len(), 100_000);
        assert_eq!(steps, 3 + 3 + 2);
    });
}

#[test]
fn who_is_late_gets_no_answer_but_all_is_done_and_told() {
    for mode in [Mode::Soft, Mode::Hard] {
        let ((control, orders), mut first) = (control(2), shard(0..FLOWS));
        let (told, mut second) = (told(&control), shard(0..10));
        let done = control.invalidate(&Selection::All, mode, Duration::ZERO);
        assert_eq!(done, Err(Unanswered::Late(Duration::ZERO)));
        assert_eq!(work(&mut second, &orders[1]).1.len(), 10);
        assert!(told.is_empty(), "the other shard has not begun");
        let (steps, left) = work(&mut first, &orders[0]);
        assert!(steps > FLOWS / 1024, "{steps}");
        let packets = left.iter().map(FlowRecord::total_packets).sum::<u64>();
        assert!(packets >= u64::from(FLOWS));
        let done: Vec<_> = told.try_iter().collect();
        assert_eq!(done.len(), 1);
        assert!(done[0].flows <= u64::from(FLOWS) + 10 && done[0].packets == done[0].flows);
        // Some left in between for want of room.
        assert!(done[0].flows + u64::from(steps) >= u64::from(FLOWS) + 10, "{done:?} {steps}");
    }
}

#[test]
fn it_says_so_when_a_part_of_the_shards_does_what_was_asked() {
    let ((control, orders), mut shard) = (control(2), shard(0..10));
    let told = told(&control);
    for _ in 0..QUESTIONS {
        control.orders[1].try_send(Box::new(|_, _, _| Progress::Done)).expect("there is room");
    }
    let done = control.invalidate(&Selection::All, Mode::Hard, Duration::ZERO);
    assert_eq!(done, Err(Unanswered::PartlyCrowded { asked: 1, of: 2 }));
    assert!(done.is_err_and(|error| error.to_string().contains("1 of its 2 parts do what")));
    assert_eq!(work(&mut shard, &orders[0]).1.len(), 10);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [Invalidated { flows: 10, packets: 10 }]);
    for _ in 0..QUESTIONS {
        control.orders[0].try_send(Box::new(|_, _, _| Progress::Done)).expect("there is room");
    }
    let done = control.invalidate(&Selection::All, Mode::Hard, Duration::ZERO);
    assert_eq!(done, Err(Unanswered::Crowded));
}
