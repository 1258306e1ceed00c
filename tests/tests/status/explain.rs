//! `flow-agent explain` says why a flow is not there.

use anyhow::{Context, Result};
use flow_tests::refusal::sentence;
use flow_tests::rig::{self, Rig};
use flow_tests::rows;
use flow_tests::status::name;
use flow_tests::traffic::{self, Ends};

use super::{text, until};

#[test]
fn explain_says_why_a_flow_is_not_there() -> Result<()> {
    let rig = Rig::new()?;
    let folder = tempfile::tempdir()?;
    let filters = "drain_interval_ms = 100\n[filter]\nexclude_ports = [514]\n\
                   exclude = [\"10.77.1.3\"]\ninclude_protocols = [\"tcp\", \"udp\"]\n";
    let (agent, status) = rig.agent_configured(folder.path(), filters, &[])?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let (counts, _) = rig::tally(&rig.lab, |_| {
        let mut sent = traffic::stream(Ends::v4((left, 0), (right, 0), 514), 20, 100)?;
        sent.add(traffic::stream(Ends::v4((left, 2), (right, 0), 53), 20, 100)?);
        Ok(sent)
    })?;
    let explain = |flow: &str| -> Result<String> { Ok(text(&status.command(&["explain", flow])?)) };
    until(
        || status.metrics(),
        |metrics| {
            let filtered = metrics.iter().filter(|(name, _)| name.contains("reason=\"filtered\""));
            filtered
                .filter(|(name, _)| name.contains("packets"))
                .map(|(_, value)| value)
                .sum::<f64>()
                >= 80.0
        },
    )?;
    for (port, words) in
        [(514, "the filters leave out its ports"), (53, "the filters leave out its addresses")]
    {
        let key = counts.by_key().into_keys().find(|key| key.destination_port == port);
        let explained = explain(&name(&key.context("it was sent")?))?;
        let metered = format!("{}/veth-left", left.namespace.name());
        let filtered = "packets since the start were not metered, reason filtered";
        for words in ["Not found. It may be missing because:", words, &metered, filtered] {
            assert!(explained.contains(words), "{words}:\n{explained}");
        }
    }
    let explained = explain("gre,10.77.1.1,10.77.2.1")?;
    assert!(explained.contains("the filters leave out its protocol"), "{explained}");
    assert!(!explained.contains("leave out its ports"), "{explained}");
    let bad = sentence(&status.command(&["explain", "tcp,10.0.0.1"])?, 2);
    assert!(bad.contains("write PROTOCOL,END,END"), "{bad}");
    agent.stop()?;
    Ok(())
}

#[test]
fn explain_knows_which_flows_are_in_the_sample() -> Result<()> {
    let rig = Rig::new()?;
    let folder = tempfile::tempdir()?;
    let sample = "drain_interval_ms = 100\n[sampling]\nmode = \"flow\"\nrate = 3\n";
    let (agent, status) = rig.agent_configured(folder.path(), sample, &[])?;
    let (left, right) = (&rig.lab.left, &rig.lab.right);
    let (counts, _) = rig::tally(&rig.lab, |_| {
        let mut sent = traffic::ask(Ends::v4((left, 0), (right, 0), 53), 40, 1, 40, 300)?;
        sent.add(traffic::ask(Ends::v6((right, 1), (left, 1), 54), 40, 1, 40, 300)?);
        Ok(sent)
    })?;
    let mut said = Vec::new();
    for key in counts.by_key().into_keys() {
        let found = status.json(&format!(
            "/api/v1/flows?store=false&key={}",
            name(&key).replace('[', "%5B").replace(']', "%5D")
        ))?;
        let reasons = found["reasons"].to_string();
        said.push((key, !reasons.contains("it is not in the sample: 1 in 3 flows is metered")));
    }
    agent.stop()?;
    let stored = rows::flows(rig.store.url(), left.interface)?;
    assert!(said.len() >= 100, "{}", said.len());
    for (key, in_sample) in &said {
        assert_eq!(stored.contains_key(key), *in_sample, "{key:?}");
    }
    let in_sample = said.iter().filter(|(_, in_sample)| *in_sample).count();
    assert!(in_sample > 0 && in_sample < said.len(), "{in_sample} of {}", said.len());
    Ok(())
}
