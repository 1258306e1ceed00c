//! Everything at once, both ways, both families: long and short TCP, UDP, ICMP.

use std::thread;

use anyhow::Result;

use super::{Ends, Sent, ask, bulk, ping, short, stream};
use crate::lab::Lab;

/// Octets each way in long connections: each some 145,000 packets.
const BULK: u64 = 200 << 20;
/// Octets a second: what the tally can follow packet by packet on a busy machine.
const PACE: u64 = 100 << 20;

type Work<'a> = Box<dyn FnOnce() -> Result<Sent> + Send + 'a>;

/// Runs all of it: more than 1,000 flows and 200,000 packets.
pub fn mixed(lab: &Lab) -> Result<Sent> {
    let (left, right) = (&lab.left, &lab.right);
    let work: Vec<Work<'_>> = vec![
        Box::new(|| bulk(Ends::v4((left, 0), (right, 0), 5201), BULK, PACE)),
        Box::new(|| bulk(Ends::v6((right, 0), (left, 0), 5201), BULK, PACE)),
        Box::new(|| short(Ends::v4((left, 1), (right, 1), 80), 400, 200, 5_000)),
        Box::new(|| short(Ends::v6((left, 1), (right, 1), 443), 400, 700, 20_000)),
        Box::new(|| short(Ends::v4((right, 2), (left, 2), 5432), 200, 100, 100)),
        Box::new(|| ask(Ends::v4((left, 3), (right, 3), 53), 100, 2, 40, 300)),
        Box::new(|| ask(Ends::v6((right, 3), (left, 3), 53), 100, 2, 40, 1_200)),
        Box::new(|| stream(Ends::v4((right, 1), (left, 1), 514), 10_000, 900)),
        Box::new(|| ping(Ends::v4((left, 0), (right, 0), 0), 100, 56)),
        Box::new(|| ping(Ends::v6((right, 0), (left, 0), 0), 100, 1_000)),
    ];
    thread::scope(|scope| {
        let running: Vec<_> = work.into_iter().map(|work| scope.spawn(work)).collect();
        let mut sent = Sent::default();
        for thread in running {
            sent.add(thread.join().map_err(|_| anyhow::anyhow!("a sender panicked"))??);
        }
        Ok(sent)
    })
}
