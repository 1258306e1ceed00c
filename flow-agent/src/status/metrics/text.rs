//! Families become the text format of Prometheus, version 0.0.4.

use std::fmt::{self, Write};

use super::{Family, Kind, Metric, Sample, Value};

/// The text.
///
/// # Errors
/// A family has samples of another kind than its own.
pub fn encode(families: &[Family]) -> Result<String, fmt::Error> {
    let mut out = String::new();
    for Family { metric, samples } in families {
        let name = metric.full_name();
        let kind = match metric.kind {
            // There is no such type here.
            Kind::Info => Kind::Gauge.label(),
            kind => kind.label(),
        };
        let help = metric.help.replace('\\', "\\\\").replace('\n', "\\n");
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
        for sample in samples {
            write_sample(&mut out, metric, &name, sample)?;
        }
    }
    Ok(out)
}

fn write_sample(out: &mut String, metric: &Metric, name: &str, sample: &Sample) -> fmt::Result {
    let Sample { labels, value } = sample;
    match (metric.kind, value) {
        (Kind::Counter | Kind::Gauge, Value::Number(number)) => {
            line(out, name, labels, None, number)
        }
        (Kind::Counter | Kind::Gauge, Value::Real(number)) => line(out, name, labels, None, number),
        (Kind::Info, Value::Info) => line(out, name, labels, None, &1),
        (Kind::Histogram, Value::Histogram { sum, count, buckets }) => {
            let (bucket, mut within) = (format!("{name}_bucket"), 0);
            for (bound, here) in buckets {
                within += here;
                line(out, &bucket, labels, Some(&bound.to_string()), &within)?;
            }
            line(out, &bucket, labels, Some("+Inf"), count)?;
            line(out, &format!("{name}_sum"), labels, None, sum)?;
            line(out, &format!("{name}_count"), labels, None, count)
        }
        _ => Err(fmt::Error),
    }
}

fn line(
    out: &mut String,
    name: &str,
    labels: &[(&'static str, String)],
    le: Option<&str>,
    value: &dyn fmt::Display,
) -> fmt::Result {
    out.write_str(name)?;
    let le = le.map(|bound| ("le", bound));
    let all = labels.iter().map(|(name, value)| (*name, value.as_str())).chain(le);
    for (place, (label, text)) in all.enumerate() {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        write!(out, "{}{label}=\"{text}\"", if place == 0 { '{' } else { ',' })?;
    }
    let end = if labels.is_empty() && le.is_none() { "" } else { "}" };
    writeln!(out, "{end} {value}")
}

#[cfg(test)]
mod tests {
    use super::super::{BUILD, LATENCY, LOST};
    use super::*;

    #[test]
    fn each_kind_is_written_as_prometheus_has_it() {
        let labels = vec![("interface", "a\"b\\c\nd".to_string()), ("reason", "crash".into())];
        let histogram = Value::Histogram { sum: 1.5, count: 3, buckets: vec![(0.5, 1), (1.0, 1)] };
        let family =
            |metric, labels, value| Family { metric, samples: vec![Sample { labels, value }] };
        let text = encode(&[
            family(BUILD, vec![("version", "1".into())], Value::Info),
            family(LOST, labels, Value::Number(7)),
            family(LATENCY, vec![("stage", "drain".into())], histogram),
        ]);
        let text = text.expect("values of the right kinds");
        for line in [
            "# TYPE flow_agent_build_info gauge",
            "flow_agent_build_info{version=\"1\"} 1",
            "# TYPE flow_agent_lost_packets_total counter",
            r#"flow_agent_lost_packets_total{interface="a\"b\\c\nd",reason="crash"} 7"#,
            "# TYPE flow_agent_stage_latency_seconds histogram",
            r#"flow_agent_stage_latency_seconds_bucket{stage="drain",le="0.5"} 1"#,
            r#"flow_agent_stage_latency_seconds_bucket{stage="drain",le="1"} 2"#,
            r#"flow_agent_stage_latency_seconds_bucket{stage="drain",le="+Inf"} 3"#,
            r#"flow_agent_stage_latency_seconds_sum{stage="drain"} 1.5"#,
            r#"flow_agent_stage_latency_seconds_count{stage="drain"} 3"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let wrong = family(LOST, Vec::new(), Value::Info);
        assert!(encode(&[wrong]).is_err());
    }
}
