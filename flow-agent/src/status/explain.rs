//! An answer of the agent as text for a person.

use std::fmt::Write;

use super::{FoundFlow, Level};

/// What is known of a flow, level by level, and why it may be missing.
pub fn explain(found: &FoundFlow) -> String {
    let mut text = format!("{}\n", found.key);
    if !found.conclusion.is_empty() {
        let _ = writeln!(text, "=> {}: {}\n", found.outcome, found.conclusion);
    }
    for step in &found.steps {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{:11}  {}", step.step, step.result);
    }
    for level in &found.levels {
        // Writing to a text cannot fail.
        let _ = write_level(&mut text, level);
    }
    let found_somewhere = found.levels.iter().any(|level| level.found);
    text.push_str(if found_somewhere {
        "\nFound. Packets of it may be missing because:\n"
    } else {
        "\nNot found. It may be missing because:\n"
    });
    for reason in &found.reasons {
        let _ = writeln!(text, "- {reason}");
    }
    text
}

fn write_level(text: &mut String, level: &Level) -> std::fmt::Result {
    writeln!(text, "\n{} ({})", level.level, level.about)?;
    if let Some(error) = &level.error {
        return writeln!(text, "  cannot be asked: {error}");
    }
    if !level.found {
        return writeln!(text, "  not found");
    }
    let or_unknown = |time: &Option<String>| time.clone().unwrap_or_else(|| "unknown".into());
    writeln!(
        text,
        "  found: {} packets, {} octets, {} to {}",
        level.packets,
        level.bytes,
        or_unknown(&level.first),
        or_unknown(&level.last)
    )?;
    if let Some(rows) = level.rows {
        writeln!(text, "  {rows} rows of batches {}", level.batches.join(", "))?;
    }
    for flow in &level.flows {
        let end = |address: &str, port: u16| match (port, address.contains(':')) {
            (0, _) => address.to_owned(),
            (port, true) => format!("[{address}]:{port}"),
            (port, false) => format!("{address}:{port}"),
        };
        write!(
            text,
            "  {} {}: {} -> {}: {} packets, {} octets; back: {} packets, {} octets",
            flow.interface,
            flow.direction,
            end(&flow.src_ip, flow.src_port),
            end(&flow.dst_ip, flow.dst_port),
            flow.packets,
            flow.bytes,
            flow.reverse_packets,
            flow.reverse_bytes
        )?;
        if let Some(reason) = &flow.flow_end_reason {
            write!(text, "; {reason}")?;
        }
        if let Some(weight) = flow.sampling.filter(|weight| *weight > 1) {
            write!(text, "; sampled, 1 in {weight}")?;
        }
        text.push('\n');
    }
    if level.more && level.rows.is_none() {
        writeln!(text, "  and more, which are not in the sums")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{FlowSummary, Step};
    use super::*;

    #[test]
    fn each_level_says_what_it_has() {
        let flow = FlowSummary {
            interface: "eth0".into(),
            direction: "egress".into(),
            src_ip: "10.0.0.1".into(),
            dst_ip: "2001:db8::1".into(),
            src_port: 4000,
            dst_port: 443,
            packets: 3,
            bytes: 180,
            flow_end_reason: Some("idle_timeout".into()),
            sampling: Some(10),
            ..FlowSummary::default()
        };
        let found = FoundFlow {
            key: "tcp,a,b".into(),
            outcome: "open".into(),
            conclusion: "it is open".into(),
            steps: vec![Step { step: "filter".into(), result: "passes".into() }],
            levels: vec![
                Level::new("kernel", "now", Vec::new()),
                Level::failed("cache", "open", &"busy"),
                Level::new("store", "rows", vec![flow]),
            ],
            reasons: vec!["it is filtered".into()],
        };
        let text = explain(&found);
        for line in [
            "tcp,a,b",
            "=> open: it is open",
            "filter       passes",
            "kernel (now)",
            "  not found",
            "  cannot be asked: busy",
            "  found: 3 packets, 180 octets, unknown to unknown",
            "  eth0 egress: 10.0.0.1:4000 -> [2001:db8::1]:443: 3 packets, 180 octets; \
             back: 0 packets, 0 octets; idle_timeout; sampled, 1 in 10",
            "Found. Packets of it may be missing because:",
            "- it is filtered",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
        }
        let nowhere = FoundFlow { levels: Vec::new(), ..found };
        assert!(explain(&nowhere).contains("Not found. It may be missing because:"));
    }
}
