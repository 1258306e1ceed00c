//! Which TCP segments were sent before.

use flow_common::tcp::Segment;
use flow_common::tcp::flags::{ACK, FIN, RST, SYN};

/// Plays segments (sequence number, payload, flags) of one direction; which repeat others?
fn repeats(segments: &[(u32, u32, u8)]) -> Vec<bool> {
    let (mut before, mut next) = (0, 0);
    segments
        .iter()
        .map(|(seq, payload, flags)| {
            let segment = Segment { seq: *seq, payload: *payload, flags: *flags };
            let repeats;
            (next, repeats) = segment.follow(before, next);
            before |= flags;
            repeats
        })
        .collect()
}

#[test]
fn what_lies_below_what_was_seen_repeats() {
    let segments = [
        (99, 0, SYN),
        (100, 50, ACK),
        (150, 50, ACK),
        (100, 50, ACK), // again
        (150, 50, ACK), // again
        (150, 60, ACK), // ten new octets
        (300, 10, ACK), // after a gap
        (210, 90, ACK), // fills it: told from a repetition by nobody with one number
        (310, 0, ACK),
        (310, 0, ACK),       // an acknowledgement, no data
        (310, 5, ACK | FIN), // the end takes one
        (310, 5, ACK | FIN), // again
        (316, 0, ACK),
    ];
    let expected = [3, 4, 7, 11];
    let found = repeats(&segments);
    let found: Vec<_> = found.iter().enumerate().filter(|(_, repeats)| **repeats).collect();
    assert_eq!(found.iter().map(|(at, _)| *at).collect::<Vec<_>>(), expected);
}

#[test]
fn keep_alive_probes_repeat_nothing() {
    assert_eq!(repeats(&[(1, 9, ACK), (9, 1, ACK), (9, 0, ACK), (10, 1, ACK)]), [false; 4]);
    assert_eq!(repeats(&[(1, 9, ACK), (8, 1, ACK)]), [false, true]);
}

#[test]
fn numbers_wrap_around() {
    let start = u32::MAX - 10;
    let segments = [(start, 20, ACK), (9, 20, ACK), (start, 20, ACK)];
    assert_eq!(repeats(&segments), [false, false, true]);
}

#[test]
fn a_new_connection_begins_anew_and_after_a_reset_only_a_syn_tells() {
    let segments = [
        (5000, 10, ACK),
        (0, 10, 0),      // says nothing
        (5000, 10, ACK), // again
        (9000, 0, RST | ACK),
        (5000, 10, ACK),
        (5000, 10, ACK), // nobody knows
        (100, 0, SYN),
        (101, 10, ACK),
        (101, 10, ACK), // again
        (100, 0, SYN),  // counted as a SYN
    ];
    let found = repeats(&segments);
    let found: Vec<_> = (0..segments.len()).filter(|at| found[*at]).collect();
    assert_eq!(found, [2, 8]);
}
