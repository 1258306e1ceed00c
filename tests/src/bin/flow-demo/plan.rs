//! The traffic of the demo: 20 rounds of about a second, so that there is something
//! to see over time, beside one long transfer.

use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow};
use flow_tests::lab::Lab;
use flow_tests::tally::Tally;
use flow_tests::traffic::{Ends, Sent, ask, bulk, ping, short, stream};
use indicatif::{DecimalBytes, HumanCount};

use crate::look::Look;

/// Megabytes a second in each round.
const RATES: [u64; 20] =
    [10, 20, 35, 50, 70, 90, 110, 120, 110, 90, 60, 40, 25, 20, 30, 60, 100, 70, 40, 15];
const MEGABYTE: u64 = 1_000_000;
/// The long transfer: this many megabytes a second, all the time.
const BACKGROUND: u64 = 5;

/// Sends it all; returns what the sockets sent.
pub fn run(lab: &Lab, look: Look, tally: &Tally) -> Result<Sent> {
    let (left, right) = (&lab.left, &lab.right);
    let rounds = RATES.len() as u64;
    let started = Instant::now();
    let bar = Look::bar(rounds);
    if bar.is_hidden() {
        println!("  … traffic  TCP, UDP and ICMP over IPv4 and IPv6 for {rounds} s");
    }
    let sent = thread::scope(|scope| {
        let long = scope.spawn(|| {
            let backup = Ends::v6((right, 3), (left, 3), 873);
            bulk(backup, rounds * BACKGROUND * MEGABYTE, BACKGROUND * MEGABYTE)
        });
        let mut sent = Sent::default();
        for (round, rate) in RATES.into_iter().enumerate() {
            sent.add(second(lab, round as u8, rate)?);
            bar.set_position(round as u64 + 1);
            bar.set_message(format!("{} metered", DecimalBytes(tally.octets())));
        }
        sent.add(long.join().map_err(|_| anyhow!("the long transfer panicked"))??);
        anyhow::Ok(sent)
    })?;
    bar.finish_and_clear();
    look.step(
        "traffic",
        &format!(
            "{} TCP, UDP and ICMP conversations, {} of payload, in {:.0} s",
            HumanCount(sent.conversations),
            DecimalBytes(sent.forward + sent.backward),
            started.elapsed().as_secs_f64()
        ),
    );
    Ok(sent)
}

/// About a second of it: one download at the round's rate, and small things beside it.
fn second(lab: &Lab, round: u8, rate: u64) -> Result<Sent> {
    let (left, right) = (&lab.left, &lab.right);
    thread::scope(|scope| {
        let small = scope.spawn(move || {
            let mut sent = Sent::default();
            sent.add(short(Ends::v4((left, round), (right, 1), 443), 20, 400, 8_000)?);
            sent.add(short(Ends::v6((left, round), (right, 2), 80), 15, 300, 3_000)?);
            sent.add(short(Ends::v4((right, round), (left, 1), 5432), 10, 500, 1_500)?);
            sent.add(ask(Ends::v4((left, round), (right, 3), 53), 20, 1, 40, 180)?);
            sent.add(ask(Ends::v6((left, round), (right, 3), 53), 10, 1, 40, 220)?);
            sent.add(stream(Ends::v4((right, 2), (left, 0), 514), 200, 700)?);
            sent.add(ping(Ends::v4((left, 0), (right, 0), 0), 2, 56)?);
            sent.add(ping(Ends::v6((right, 0), (left, 0), 0), 2, 56)?);
            anyhow::Ok(sent)
        });
        // Downloads go both ways in turn: the left end's XDP sees what comes in.
        let octets = rate * MEGABYTE;
        let (from, to) = if round % 3 == 2 { (right, left) } else { (left, right) };
        let mut sent = bulk(Ends::v4((from, round / 7), (to, 0), 5201), octets, octets)?;
        sent.add(small.join().map_err(|_| anyhow!("a sender panicked"))??);
        Ok(sent)
    })
}
