//! The real agent without a store, in any kernel that it supports: `cargo xtask test --kernels` runs
//! this in virtual machines, where the engine would take minutes. Needs root and the agent's binary.

use std::time::Duration;

use anyhow::Result;
use flow_tests::hooks;
use flow_tests::lab::Lab;
use flow_tests::rig;
use flow_tests::status::{ANY_PORT, Status};
use flow_tests::traffic::{self, Ends};

/// On a machine that is emulated.
const LIMIT: Duration = Duration::from_secs(60);

/// What it sees is what was on the wire, and a stopped agent leaves nothing; then once more.
#[test]
fn an_agent_counts_what_is_on_the_wire_and_leaves_nothing() -> Result<()> {
    let lab = Lab::new()?;
    for attach in [("xdp", "tc"), ("xdp-generic", "tc")] {
        let more = ["--drain-interval", "50", ANY_PORT[0], ANY_PORT[1]];
        // Nobody listens there: batches wait in the spool.
        let agent = rig::agent(&lab, attach, "http://127.0.0.1:1", &more)?;
        let status = Status::of(&agent)?;
        let (left, right) = (&lab.left, &lab.right);
        assert!(!hooks::attached(left)?.is_empty() && !hooks::attached(right)?.is_empty());
        let counts = rig::tally(&lab, |_| {
            let mut sent = traffic::ask(Ends::v4((left, 0), (right, 0), 53), 50, 5, 40, 300)?;
            sent.add(traffic::short(Ends::v6((left, 0), (right, 0), 80), 20, 100, 3_000)?);
            lab.wait_quiet()?;
            Ok(sent)
        })?;
        for (side, counts) in [(left, &counts.0), (right, &counts.1)] {
            let interface = format!("{}/{}", side.namespace.name(), side.interface);
            let of = |stage: &str, unit: &str| -> Result<u64> {
                let page = status.json("/api/v1/ledger")?;
                Ok(page["interfaces"][&interface][stage][unit].as_u64().unwrap_or_default())
            };
            let seen = counts.total.packets + counts.other;
            agent
                .wait_until("all of it is drained", LIMIT, || Ok(of("seen", "packets")? >= seen))?;
            assert_eq!(of("seen", "packets")?, seen, "{attach:?} {interface}");
            assert_eq!(of("metered", "packets")?, counts.total.packets, "{attach:?} {interface}");
            assert_eq!(of("metered", "octets")?, counts.total.octets, "{attach:?} {interface}");
        }
        assert!(status.metrics()?["flow_agent_unaccounted_packets"] == 0.0);
        agent.stop()?;
        for side in [left, right] {
            assert_eq!(hooks::attached(side)?, Vec::<String>::new(), "{attach:?}");
        }
    }
    Ok(())
}
