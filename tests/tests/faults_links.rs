//! Links that flap and packets that become large while an interface is metered. Needs root, the
//! agent's binary and libchdb.

use anyhow::{Result, ensure};
use flow_tests::faults::{self, Outcome};
use flow_tests::pairs::{End, Pair};
use flow_tests::rig::{self, Rig};
use flow_tests::tally::Count;
use flow_tests::traffic::{self, Ends};
use flow_tests::watched::{agent, none_unknown, spaces, stored};
use rustix::process::Signal;

/// What was sent over a link between its flaps is stored, by XDP and by TC.
#[test]
fn a_link_that_flaps_is_metered_whenever_it_is_up() -> Result<()> {
    const FLAPS: u64 = 10;
    let rig = Rig::new()?;
    let (here, there) = spaces(&rig.lab);
    let pair = Pair::new(1, End::new(here, "late0"), End::new(there, "far0"))?;
    let names = [format!("{}/late0", here.name()), format!("{}/far0", there.name())];
    let agent = agent(&rig, &[&format!("{}:tc", names[0]), &format!("{}:xdp", names[1])], &[])?;
    let mut sent = Count::default();
    for flap in 0..FLAPS {
        sent.add(pair.send(5 + flap)?);
        // The administrator's end forgets its neighbours; both forget the link.
        pair.flap(there, "far0")?;
        sent.add(pair.send(3)?);
        pair.flap(here, "late0")?;
    }
    sent.add(pair.send(40)?);
    agent.stop()?;
    for name in &names {
        assert_eq!(stored(&rig, name)?, sent, "{name}");
    }
    none_unknown(&rig)?;
    let proof = format!("{} times down and up; sends between them arrived", 2 * FLAPS);
    faults::record("link_flaps", &proof, Outcome::compare(rig.store.url(), 2 * sent.packets)?)
}

/// Native XDP that takes no packet of several buffers would keep anybody from raising the MTU.
#[test]
fn an_mtu_that_is_raised_under_an_agent_is_no_matter() -> Result<()> {
    const LARGE: usize = 8_000;
    let rig = Rig::new()?;
    let agent = rig.agent(("xdp", "tc"))?;
    let counts = rig::tally(&rig.lab, |lab| {
        let (left, right) = (&lab.left, &lab.right);
        let small = || traffic::ask(Ends::v4((left, 0), (right, 0), 53), 20, 2, 400, 900);
        let mut sent = small()?;
        for side in [left, right] {
            side.namespace.ip(&format!("link set {} mtu 9000\n", side.interface))?;
        }
        sent.add(traffic::ask(Ends::v4((left, 1), (right, 1), 53), 20, 3, LARGE, LARGE)?);
        sent.add(traffic::bulk(Ends::v4((right, 0), (left, 0), 5201), 1 << 20, 100 << 20)?);
        for side in [left, right] {
            side.namespace.ip(&format!("link set {} mtu 1500\n", side.interface))?;
        }
        sent.add(small()?);
        Ok(sent)
    })?;
    agent.signal(Signal::TERM)?;
    let (code, log) = agent.ended(std::time::Duration::from_mins(1))?;
    ensure!(code == Some(0), "{log}");
    rig::exact(&rig.lab, rig.store.url(), &counts)
        .inspect_err(|_| println!("the agent said:\n{log}"))?;
    ensure!(counts.0.later_fragments == 0, "large datagrams were fragmented");
    let sent = counts.0.total.packets + counts.1.total.packets;
    let proof = format!("datagrams of {LARGE} octets were one packet each on the wire");
    faults::record("mtu_raised", &proof, Outcome::compare(rig.store.url(), sent)?)
}
