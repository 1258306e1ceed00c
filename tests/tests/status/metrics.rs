//! The metrics against the ledger, and each of them described.

#![allow(clippy::float_cmp, reason = "samples are whole numbers here")]

use std::collections::BTreeSet;

use anyhow::Result;
use flow_agent::status::metrics::METRICS;
use flow_tests::ledger::Ledger;
use flow_tests::rig::{self, Rig};
use flow_tests::status::Samples;
use flow_tests::traffic::{self, Ends};
use serde_json::json;

use super::{agent, until};

#[test]
fn the_metrics_are_the_ledger_and_every_one_is_described() -> Result<()> {
    let rig = Rig::new()?;
    let (agent, status) = agent(&rig, &["--drain-interval", "100", "--idle-timeout", "1"])?;
    assert_eq!(status.get("/healthz")?.status, 200);
    let ready = json!({ "ready": true, "phase": "metering", "delivery": null });
    assert_eq!(status.json("/readyz")?, ready);
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let counts = rig::tally(&rig.lab, |_| {
        let mut sent = traffic::ask(Ends::v4((left, 0), (right, 0), 53), 50, 5, 40, 300)?;
        sent.add(traffic::short(Ends::v6((left, 0), (right, 0), 80), 20, 100, 30_000)?);
        Ok(sent)
    })?;
    let packets = (counts.0.total.packets + counts.1.total.packets) as f64;
    let acknowledged = |metrics: &Samples| {
        let all = metrics.iter();
        let all = all.filter(|(name, _)| name.starts_with("flow_agent_acknowledged_packets"));
        all.map(|(_, value)| value).sum::<f64>() >= packets
    };
    let metrics = until(|| status.metrics(), acknowledged)?;
    assert_eq!(metrics["flow_agent_in_flight_packets"], 0.0);
    assert_eq!(metrics["flow_agent_unaccounted_packets"], 0.0);
    assert_eq!(metrics["flow_agent_metered_interfaces"], 2.0);
    let page = status.json("/api/v1/ledger")?;
    let pages = ["status", "cache", "latency", "interfaces"];
    for page in pages {
        assert!(status.json(&format!("/api/v1/{page}"))?.is_object(), "{page}");
    }
    let described = status.metrics_text()?;
    agent.stop()?;
    for side in [left, right] {
        let interface = format!("{}/{}", side.namespace.name(), side.interface);
        let ledger = Ledger::read(rig.store.url(), side.interface)?;
        let of = |metric: &str, unit: &str| {
            let name = format!("flow_agent_{metric}_{unit}_total{{interface=\"{interface}\"}}");
            metrics.get(&name).copied().unwrap_or(0.0)
        };
        for (metric, count) in [
            ("seen", ledger.seen),
            ("metered", ledger.metered),
            ("drained", ledger.drained),
            ("acknowledged", ledger.acknowledged),
        ] {
            assert_eq!(of(metric, "packets"), count.packets as f64, "{metric} {ledger:?}");
            assert_eq!(of(metric, "bytes"), count.octets as f64, "{metric} {ledger:?}");
            assert_eq!(page["interfaces"][&interface][metric]["packets"], count.packets);
            assert_eq!(page["interfaces"][&interface][metric]["octets"], count.octets);
        }
        assert_eq!(ledger.metered.packets, ledger.acknowledged.packets);
    }
    // Each metric is described, whether it has samples or not, and nothing else is written.
    assert!(described.ends_with("# EOF\n"));
    let word = |line: &str, at: usize| line.split(' ').nth(at).unwrap_or_default().to_owned();
    let lines = |begin: &str| -> Vec<String> {
        let begun = described.lines().filter(|line| line.starts_with(begin));
        begun.map(|line| word(line, 2)).collect()
    };
    let families: BTreeSet<_> = METRICS
        .iter()
        .map(|metric| {
            let name = metric.full_name();
            let name = name.strip_suffix("_total").or(name.strip_suffix("_info"));
            name.map_or_else(|| metric.full_name(), ToOwned::to_owned)
        })
        .collect();
    for begin in ["# HELP ", "# TYPE "] {
        let written = lines(begin);
        assert_eq!(written.len(), METRICS.len(), "{begin}");
        assert_eq!(written.into_iter().collect::<BTreeSet<_>>(), families, "{begin}");
    }
    let units = METRICS.iter().filter(|metric| !metric.unit.is_empty()).count();
    assert_eq!(lines("# UNIT ").len(), units);
    for sample in metrics.keys() {
        let name = sample.split('{').next().unwrap_or_default();
        let known = families.iter().any(|family| {
            name.strip_prefix(family.as_str()).is_some_and(|suffix| {
                ["", "_total", "_info", "_sum", "_count", "_bucket"].contains(&suffix)
            })
        });
        assert!(known, "{sample}");
    }
    Ok(())
}
