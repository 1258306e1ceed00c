//! Places under random outages.

use proptest::prelude::*;

use super::*;

fn names(shards: usize, replicas: usize) -> Vec<Vec<String>> {
    let name = |shard, replica| format!("http://s{shard}r{replica}:8123");
    (0..shards).map(|s| (0..replicas).map(|r| name(s, r)).collect()).collect()
}

fn board(names: &[Vec<String>], exporter: &str, placement: Placement) -> Board {
    let shards: Vec<Vec<&str>> =
        names.iter().map(|shard| shard.iter().map(String::as_str).collect()).collect();
    Board::new(&shards, exporter, placement)
}

/// Asks and reports as a delivery would against servers of which some are up.
fn send(board: &mut Board, up: impl Fn(Place) -> bool, now: Instant) -> Place {
    let place = board.choose(now);
    let fate = if up(place) { Fate::Answered } else { Fate::Away };
    board.report(place, fate, (fate == Fate::Away).then_some("away"), now);
    place
}

/// Probes what is due.
fn probe(board: &mut Board, up: impl Fn(Place) -> bool, now: Instant) {
    while let Some(place) = board.due_probe(now) {
        let fate = if up(place) { Fate::Answered } else { Fate::Away };
        board.report(place, fate, (fate == Fate::Away).then_some("away"), now);
    }
}

proptest! {
    /// Whatever happened before: when servers have been steadily up or down for two minutes,
    /// batches go to the first server that is up of the nearest shard that has one.
    #[test]
    fn steady_servers_are_used_as_configured(
        shards in 1usize..4,
        replicas in 1usize..4,
        exporter in "[a-z]{1,8}",
        before in prop::collection::vec((any::<u16>(), 0u64..5_000), 0..40),
        up in any::<u16>(),
    ) {
        let names = names(shards, replicas);
        let mut board = board(&names, &exporter, Placement::Consistent);
        let is_up = |mask: u16| move |place: Place| mask >> (place.shard * 4 + place.replica) & 1 == 1;
        let mut now = Instant::now();
        for (mask, ms) in before {
            now += Duration::from_millis(ms);
            probe(&mut board, is_up(mask), now);
            send(&mut board, is_up(mask), now);
        }
        for _ in 0..120 {
            now += Duration::from_secs(1);
            probe(&mut board, is_up(up), now);
            send(&mut board, is_up(up), now);
        }
        let place = board.choose(now);
        let first_up = |shard: usize| {
            (0..replicas).map(|replica| Place { shard, replica }).find(|place| is_up(up)(*place))
        };
        let wanted = board.order.iter().find_map(|shard| first_up(*shard));
        if let Some(wanted) = wanted {
            prop_assert_eq!(place, wanted);
        } else {
            prop_assert_eq!(place.shard, board.order[0]);
        }
    }

    /// A batch in doubt never leaves its shard, and each of its servers is tried in turn.
    #[test]
    fn a_batch_in_doubt_stays(shards in 1usize..4, replicas in 1usize..5, shard in 0usize..4) {
        let shard = shard % shards;
        let names = names(shards, replicas);
        let mut board = board(&names, "e", Placement::RoundRobin);
        let mut now = Instant::now();
        let mut tried = vec![0; replicas];
        for _ in 0..replicas * 20 {
            now += Duration::from_millis(700);
            let place = board.stay(shard, now);
            prop_assert_eq!(place.shard, shard);
            tried[place.replica] += 1;
            board.report(place, Fate::Away, Some("away"), now);
        }
        prop_assert!(tried.iter().all(|count| *count >= 10), "{:?}", tried);
    }

    /// A shard that is added takes exporters, and moves none between the others.
    #[test]
    fn a_new_shard_moves_only_what_it_gets(exporter in "[a-z0-9.-]{1,20}", shards in 1usize..9) {
        let home = |shards| {
            let mut board = board(&names(shards, 2), &exporter, Placement::Consistent);
            board.choose(Instant::now()).shard
        };
        let (before, after) = (home(shards), home(shards + 1));
        prop_assert!(after == before || after == shards);
    }
}

#[test]
fn exporters_are_spread_over_the_shards() {
    let names = names(4, 1);
    let mut counts = [0; 4];
    for number in 0..4000 {
        let exporter = format!("host-{number}.example");
        let mut board = board(&names, &exporter, Placement::Consistent);
        counts[board.choose(Instant::now()).shard] += 1;
    }
    assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
}

#[test]
fn turns_go_round_and_leave_out_what_is_down() {
    let names = names(3, 1);
    let mut board = board(&names, "e", Placement::RoundRobin);
    let now = Instant::now();
    let places: Vec<_> = (0..6).map(|_| send(&mut board, |_| true, now).shard).collect();
    assert_eq!(places, [0, 1, 2, 0, 1, 2]);
    let without = |place: Place| place.shard != 1;
    let places: Vec<_> = (0..5).map(|_| send(&mut board, without, now).shard).collect();
    assert_eq!(places, [0, 1, 2, 0, 2]);
}

#[test]
fn a_short_outage_of_the_only_server_scatters_nothing() {
    let names = names(3, 1);
    let mut board = board(&names, "e", Placement::Consistent);
    let mut now = Instant::now();
    let home = board.choose(now).shard;
    let away = |place: Place| place.shard != home;
    for _ in 0..29 {
        assert_eq!(send(&mut board, away, now).shard, home);
        now += Duration::from_secs(1);
    }
    now += Duration::from_secs(2);
    assert_ne!(send(&mut board, away, now).shard, home, "a long one does");
    // It is not gone back to before it has answered.
    assert_ne!(send(&mut board, |_| true, now).shard, home);
    now += LONGEST_REST;
    probe(&mut board, |_| true, now);
    assert_eq!(send(&mut board, |_| true, now).shard, home);
}

#[test]
fn a_view_says_what_is_known() {
    let names = names(1, 2);
    let mut board = board(&names, "e", Placement::Consistent);
    let now = Instant::now();
    send(&mut board, |place| place.replica == 1, now);
    send(&mut board, |place| place.replica == 1, now);
    let views = board.view(|place| (format!("u{}", place.replica), 7));
    let states: Vec<_> = views.iter().map(|view| (view.state, view.failures)).collect();
    assert_eq!(states, [("down", 1), ("up", 0)]);
    assert_eq!(views[0].last_error.as_deref(), Some("away"));
    assert_eq!((views[1].url.as_str(), views[1].connects, views[1].home), ("u1", 7, true));
}
