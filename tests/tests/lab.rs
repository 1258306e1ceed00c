//! The lab itself: what the tally counts is what the sockets sent, with super-packets.
//! Needs root.

use anyhow::Result;
use flow_tests::lab::Lab;
use flow_tests::tally::{Direction, Key, Tally};
use flow_tests::traffic::{self, Ends};

const TCP: u8 = 6;
const UDP: u8 = 17;

#[test]
fn both_ends_count_the_same_and_as_many_octets_as_were_sent() -> Result<()> {
    let lab = Lab::new()?;
    let (left, right) = (Tally::start(&lab.left)?, Tally::start(&lab.right)?);

    let bulk_ends = Ends::v4((&lab.left, 0), (&lab.right, 0), 5201);
    let bulk = traffic::bulk(bulk_ends, 50 << 20, 200 << 20)?;
    assert_eq!((bulk.forward, bulk.backward), (50 << 20, 1));
    let short = traffic::short(Ends::v6((&lab.right, 1), (&lab.left, 2), 443), 100, 300, 2000)?;
    assert_eq!((short.forward, short.backward), (30_000, 200_000));
    traffic::ask(Ends::v6((&lab.left, 0), (&lab.right, 3), 53), 10, 3, 40, 200)?;
    let stream = traffic::stream(Ends::v4((&lab.right, 0), (&lab.left, 0), 9999), 5_000, 1000)?;
    traffic::ping(Ends::v4((&lab.left, 0), (&lab.right, 0), 0), 20, 56)?;
    traffic::ping(Ends::v6((&lab.left, 0), (&lab.right, 0), 0), 20, 56)?;

    let (left, right) = (left.stop()?, right.stop()?);
    assert_eq!((left.other, right.other), (0, 0), "only IP is on the wire");
    assert_eq!(left.by_key(), right.by_key(), "both ends see the same");
    assert!(left.super_egress > 0 && right.super_ingress > 0, "segmentation offload is on");

    let payload = |counts: &flow_tests::tally::Counts, matches: &dyn Fn(&Key) -> bool, headers| {
        let of = counts.flows.iter().filter(|((_, key), _)| matches(key));
        of.fold((0, 0), |(packets, octets), (_, count)| {
            (packets + count.packets, octets + count.octets - count.packets * headers)
        })
    };
    // 20 octets IPv4, 20 TCP, 12 timestamps; SYN packets have 8 more.
    let forward = |key: &Key| key.protocol == TCP && key.destination_port == 5201;
    let (packets, octets) = payload(&left, &forward, 52);
    assert_eq!(octets, bulk.forward + 8);
    assert!(packets > (50 << 20) / 1448, "a super-packet counts as its segments");
    let datagrams = payload(&left, &|key| key.protocol == UDP && key.destination_port == 9999, 28);
    assert_eq!(datagrams, (5_000, stream.forward));
    let pings: Vec<_> = left.flows.iter().filter(|((_, key), _)| key.protocol == 1).collect();
    assert_eq!(pings.len(), 2);
    assert!(pings.iter().all(|(_, count)| (count.packets, count.octets) == (20, 20 * 84)));
    assert!(pings.iter().any(|((direction, _), _)| *direction == Direction::Egress));
    Ok(())
}

#[test]
fn a_lab_leaves_nothing_behind() -> Result<()> {
    let lab = Lab::new()?;
    let name = lab.left.namespace.name().to_owned();
    let path = std::path::Path::new(flow_tests::cleanup::NAMES).join(&name);
    assert!(path.exists());
    let panicked = std::thread::spawn(move || {
        let _lab = lab;
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    assert!(!path.exists(), "{name} is still there");
    Ok(())
}
