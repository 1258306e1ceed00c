//! Invalidation under traffic, by every selection.

use std::time::Duration;

use anyhow::{Result, ensure};
use flow_tests::rig::{self, Rig};
use flow_tests::rows;
use flow_tests::sql;
use flow_tests::traffic::{self, Ends};
use serde_json::{Value, json};

use super::{agent, text, until};

#[test]
fn invalidation_by_every_selection_keeps_every_packet() -> Result<()> {
    let rig = Rig::new()?;
    let (agent, status) = agent(&rig, &["--drain-interval", "50", "--idle-timeout", "60"])?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let interface = format!("{}/{}", left.namespace.name(), left.interface);
    let ping = format!("icmp,{},{}", left.v4(0), right.v4(0));
    let version = env!("CARGO_PKG_VERSION");
    let selections = [
        json!({ "key": ping }),
        json!({ "prefix": "10.77.2.0/24" }),
        json!({ "prefix": "fd00:77::/64" }),
        json!({ "interface": interface }),
        json!({ "version": version }),
        json!({ "all": true }),
    ];
    let counts = rig::tally(&rig.lab, |_| {
        std::thread::scope(|scope| {
            let (stop, stopped) = std::sync::mpsc::channel::<()>();
            let background = scope.spawn(move || -> Result<traffic::Sent> {
                let mut sent = traffic::Sent::default();
                while stopped.try_recv().is_err() {
                    let (four, six) =
                        (Ends::v4((left, 0), (right, 0), 53), Ends::v6((right, 1), (left, 1), 443));
                    sent.add(traffic::ask(four, 5, 4, 40, 300)?);
                    sent.add(traffic::short(six, 3, 100, 20_000)?);
                    sent.add(traffic::ping(Ends::v4((left, 0), (right, 0), 0), 3, 56)?);
                }
                Ok(sent)
            });
            let work = || -> Result<()> {
                for mode in ["soft", "hard", "soft", "hard"] {
                    for selection in &selections {
                        let mut order = selection.clone();
                        order["mode"] = mode.into();
                        // Until there was something to emit.
                        let emitted = |done: &Value| done["packets"] != 0 && done["flows"] != 0;
                        until(|| status.invalidate(&order), emitted)?;
                    }
                }
                // By the command, too.
                let done = text(&status.command(&["cache", "invalidate", "--all", "--hard"])?);
                ensure!(done.ends_with("packets, and removed\n"), "{done}");
                let by = ["cache", "invalidate", "--interface", &interface];
                ensure!(text(&status.command(&by)?).ends_with("and kept\n"), "{done}");
                Ok(())
            };
            let worked = work();
            let _ = stop.send(()); // it may have failed and gone
            let sent = background.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
            worked.map(|()| sent)
        })
    })?;
    assert_eq!(status.invalidate(&json!({ "version": "0.0.0-none" }))?["flows"], 0);
    let stats = text(&status.command(&["cache", "stats"])?);
    assert!(stats.contains("invalidated_hard") && stats.contains("hit ratio"), "{stats}");
    let stats: Value =
        serde_json::from_slice(&status.command(&["cache", "stats", "--json"])?.stdout)?;
    for count in ["invalidated_soft", "invalidated_hard", "hits", "misses"] {
        assert!(stats["counts"][count].as_u64() > Some(0), "{count}: {stats:#}");
    }
    let logged = "hard invalidation of All, asked for at the status address: ";
    agent.wait_log(logged, Duration::from_secs(10))?;
    agent.stop()?;
    // One ping is one flow: it has several records because it was emitted and kept.
    let rows = sql::number(
        rig.store.url(),
        "SELECT count() FROM flow.flows WHERE protocol = 1 AND endsWith(interface, 'veth-left')",
    )?;
    assert!(rows >= 4, "{rows}");
    rig::exact(&rig.lab, rig.store.url(), &counts)?;
    assert!(!rows::flows(rig.store.url(), left.interface)?.is_empty());
    Ok(())
}
