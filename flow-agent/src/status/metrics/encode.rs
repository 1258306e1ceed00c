//! Families become text: `OpenMetrics`, or that of Prometheus for clients that know no other.

use std::fmt;

use hyper::header::HeaderValue;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::{Registry, Unit};

use super::{Family, Kind, PREFIX, Sample, Value};

/// How the metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// The text format of Prometheus, 0.0.4: what `promtool check metrics` reads.
    Prometheus,
}

impl Form {
    /// What a client gets that sends this `Accept`: `OpenMetrics` if it names it or says
    /// nothing, as Prometheus does; the older form if it would take anything, as curl does.
    pub fn asked(accept: Option<&HeaderValue>) -> Self {
        let Some(accept) = accept.and_then(|accept| accept.to_str().ok()) else {
            return Self::OpenMetrics;
        };
        let open = accept.split(',').any(|kind| {
            let mut parts = kind.split(';').map(str::trim);
            parts.next() == Some("application/openmetrics-text")
                && !parts.any(|part| part == "q=0" || part == "q=0.0")
        });
        if open { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The type of the text.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The text.
///
/// # Errors
/// A family has samples of another kind than its own.
pub fn encode(families: Vec<Family>, form: Form) -> Result<String, fmt::Error> {
    if form == Form::Prometheus {
        return super::text::encode(&families);
    }
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Families(families)));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for Family { metric, samples } in &self.0 {
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
                Kind::Info => MetricType::Info,
            };
            let unit = match metric.unit {
                "" => None,
                "seconds" => Some(Unit::Seconds),
                "bytes" => Some(Unit::Bytes),
                other => Some(Unit::Other(other.to_owned())),
            };
            let mut family =
                encoder.encode_descriptor(metric.name, metric.help, unit.as_ref(), kind)?;
            for Sample { labels, value } in samples {
                if *value == Value::Info {
                    family.encode_info(labels)?;
                } else if labels.is_empty() {
                    encode_value(&mut family, metric.kind, value)?;
                } else {
                    encode_value(&mut family.encode_family(labels)?, metric.kind, value)?;
                }
            }
        }
        Ok(())
    }
}

fn encode_value(
    encoder: &mut MetricEncoder<'_>,
    kind: Kind,
    value: &Value,
) -> Result<(), fmt::Error> {
    const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, f64>> = None;
    match (kind, value) {
        (Kind::Counter, Value::Number(number)) => encoder.encode_counter(number, NO_EXEMPLAR),
        (Kind::Counter, Value::Real(number)) => encoder.encode_counter(number, NO_EXEMPLAR),
        (Kind::Gauge, Value::Number(number)) => encoder.encode_gauge(number),
        (Kind::Gauge, Value::Real(number)) => encoder.encode_gauge(number),
        (Kind::Histogram, Value::Histogram { sum, count, buckets }) => {
            let within: u64 = buckets.iter().map(|(_, count)| count).sum();
            let mut buckets = buckets.clone();
            buckets.push((f64::INFINITY, count.saturating_sub(within)));
            encode_histogram::<NoLabelSet>(encoder, *sum, *count, &buckets)
        }
        _ => Err(fmt::Error),
    }
}

fn encode_histogram<S: EncodeLabelSet>(
    encoder: &mut MetricEncoder<'_>,
    sum: f64,
    count: u64,
    buckets: &[(f64, u64)],
) -> Result<(), fmt::Error> {
    encoder.encode_histogram::<S>(sum, count, buckets, None)
}

#[cfg(test)]
mod tests {
    use super::super::{CACHE_HITS, LATENCY, LOST, START};
    use super::*;

    #[test]
    fn each_kind_is_written_as_openmetrics_has_it() {
        let labels = vec![("interface", "a\"b\\c\nd".to_string()), ("reason", "crash".into())];
        let histogram = Value::Histogram { sum: 1.5, count: 3, buckets: vec![(0.5, 1), (1.0, 1)] };
        let families = vec![
            Family {
                metric: START,
                samples: vec![Sample { labels: vec![], value: Value::Real(0.5) }],
            },
            Family { metric: LOST, samples: vec![Sample { labels, value: Value::Number(7) }] },
            Family {
                metric: LATENCY,
                samples: vec![Sample { labels: vec![("stage", "drain".into())], value: histogram }],
            },
        ];
        let text = encode(families, Form::OpenMetrics).expect("all kinds agree");
        for line in [
            "# TYPE flow_agent_start_time_seconds gauge",
            "# UNIT flow_agent_start_time_seconds seconds",
            "flow_agent_start_time_seconds 0.5",
            "# HELP flow_agent_lost_packets Packets whose flow was lost in the kernel.",
            "# TYPE flow_agent_lost_packets counter",
            "# UNIT flow_agent_lost_packets packets",
            "flow_agent_lost_packets_total{interface=\"a\\\"b\\\\c\\nd\",reason=\"crash\"} 7",
            "flow_agent_stage_latency_seconds_count{stage=\"drain\"} 3",
            "flow_agent_stage_latency_seconds_bucket{le=\"1.0\",stage=\"drain\"} 2",
            "flow_agent_stage_latency_seconds_bucket{le=\"+Inf\",stage=\"drain\"} 3",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
        }
    }

    #[test]
    fn a_value_of_another_kind_is_an_error() {
        let value = Value::Histogram { sum: 0.5, count: 1, buckets: vec![] };
        let sample = Sample { labels: vec![], value };
        let family = Family { metric: CACHE_HITS, samples: vec![sample] };
        assert!(encode(vec![family], Form::OpenMetrics).is_err());
    }

    #[test]
    fn who_names_openmetrics_or_nothing_gets_it() {
        let asked = |accept: &'static str| Form::asked(Some(&HeaderValue::from_static(accept)));
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.3,*/*;q=0.1";
        assert_eq!(Form::asked(None), Form::OpenMetrics);
        assert_eq!(asked(prometheus), Form::OpenMetrics);
        for accept in ["*/*", "text/plain;version=0.0.4", "", "application/openmetrics-text;q=0"] {
            assert_eq!(asked(accept), Form::Prometheus, "{accept}");
        }
    }
}
