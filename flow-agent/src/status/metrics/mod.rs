//! The metrics: `OpenMetrics` text, made anew for each scrape.
//!
//! [`METRICS`] names all of them, and `docs/metrics.md` has a row for each: a test compares
//! the two, and that nothing else is written.

mod collect;
mod encode;
mod findings;
mod text;

pub use collect::collect;
pub use encode::{Form, encode};

/// What kind of metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from 0 at the start.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
    /// Labels alone.
    Info,
}

impl Kind {
    /// The name in documents.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

/// A metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Without prefix, unit and suffix.
    pub name: &'static str,
    /// What kind.
    pub kind: Kind,
    /// Empty for none.
    pub unit: &'static str,
    /// Names of the labels, with commas between them.
    pub labels: &'static str,
    /// One sentence.
    pub help: &'static str,
}

impl Metric {
    /// The name of its samples, without what a histogram adds.
    pub fn full_name(&self) -> String {
        let mut name = format!("{PREFIX}_{}", self.name);
        if !self.unit.is_empty() {
            name.extend(["_", self.unit]);
        }
        match self.kind {
            Kind::Counter => name.push_str("_total"),
            Kind::Info => name.push_str("_info"),
            Kind::Gauge | Kind::Histogram => {}
        }
        name
    }
}

/// What every name begins with.
pub const PREFIX: &str = "flow_agent";

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Number(u64),
    /// Another number.
    Real(f64),
    /// Sum, count and buckets with their upper bounds; what is above them is in the count.
    Histogram {
        /// Of all values.
        sum: f64,
        /// How many.
        count: u64,
        /// Upper bound and how many are in this bucket alone.
        buckets: Vec<(f64, u64)>,
    },
    /// Labels alone.
    Info,
}

/// One sample: its labels and value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: Value,
}

/// A metric with its samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Which.
    pub metric: Metric,
    /// At most one for each combination of labels.
    pub samples: Vec<Sample>,
}

macro_rules! metrics {
    ($($const:ident = $kind:ident $name:literal [$unit:literal] {$labels:literal} $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $const: Metric = Metric {
                name: $name, kind: Kind::$kind, unit: $unit, labels: $labels, help: $help,
            };
        )*
        /// Every metric, in the order of the documents.
        pub const METRICS: &[Metric] = &[$($const),*];
    };
}

metrics! {
    BUILD = Info "build" [""] {"version, exporter"} "The agent's version, and this host's name in the rows.";
    READY = Gauge "ready" [""] {""} "1 while the agent meters, 0 while it starts or stops.";
    START = Gauge "start_time" ["seconds"] {""} "When the agent started, Unix time.";
    CLOCK = Gauge "clock" ["seconds"] {""} "This host's clock, Unix time: compared with that of whoever asks, it tells whose is wrong.";

    SEEN = Counter "seen" ["packets"] {"interface"} "Packets that a hook was given.";
    SEEN_BYTES = Counter "seen" ["bytes"] {"interface"} "IP octets of those packets; behind the link header where they are not IP.";
    METERED = Counter "metered" ["packets"] {"interface"} "Packets in flows.";
    METERED_BYTES = Counter "metered" ["bytes"] {"interface"} "IP octets in flows.";
    NOT_METERED = Counter "not_metered" ["packets"] {"interface, reason"} "Packets without a flow that are no loss: not IP, malformed, filtered, not sampled.";
    NOT_METERED_BYTES = Counter "not_metered" ["bytes"] {"interface, reason"} "Their octets.";
    LOST = Counter "lost" ["packets"] {"interface, reason"} "Packets whose flow was lost in the kernel.";
    LOST_BYTES = Counter "lost" ["bytes"] {"interface, reason"} "Their octets.";
    UNACCOUNTED = Gauge "unaccounted" ["packets"] {""} "Packets seen less metered, not metered and lost: 0, or there is a bug.";
    FRAGMENTS = Counter "fragments_without_ports" ["packets"] {"interface"} "Later fragments whose first was not seen: metered with ports 0.";
    DRAINED = Counter "drained" ["packets"] {"interface"} "Packets that the agent took over from the kernel.";
    DRAINED_BYTES = Counter "drained" ["bytes"] {"interface"} "Their octets.";
    RECOVERED = Counter "recovered" ["packets"] {"interface"} "Packets that an agent before this one had taken over: in the spool, or lost with it.";
    RECOVERED_BYTES = Counter "recovered" ["bytes"] {"interface"} "Their octets.";
    ACKNOWLEDGED = Counter "acknowledged" ["packets"] {"interface"} "Packets in rows that the store has.";
    ACKNOWLEDGED_BYTES = Counter "acknowledged" ["bytes"] {"interface"} "Their octets.";
    UNDELIVERED = Counter "undelivered" ["packets"] {"interface, reason"} "Drained packets that are in no row: lost on the way, or in the quarantine.";
    UNDELIVERED_BYTES = Counter "undelivered" ["bytes"] {"interface, reason"} "Their octets.";
    IN_FLIGHT = Gauge "in_flight" ["packets"] {""} "Packets in open flows, in batches and in the spool: drained and recovered less acknowledged and undelivered.";

    INTERFACES = Gauge "metered" ["interfaces"] {""} "Interfaces that are metered.";
    REFUSED = Gauge "refused" ["interfaces"] {""} "Interfaces that were asked for and cannot be metered.";

    PROGRAM_STATISTICS = Gauge "kernel_program_statistics" [""] {""} "1 while the kernel counts what eBPF programs cost, else 0.";
    PROGRAM_RUNS = Counter "kernel_program" ["runs"] {"program"} "Runs of the agent's programs in the kernel, a packet or super-packet each; only those that were counted.";
    PROGRAM_SECONDS = Counter "kernel_program_run" ["seconds"] {"program"} "Time that these runs took.";

    EMBEDDED_UP = Gauge "embedded_store_up" [""] {""} "1 while the process of the embedded store runs; missing for another store.";
    STORE_RESTARTS = Counter "embedded_store_restarts" [""] {""} "Times that the process of the embedded store had ended and was started again.";
    STORE_FAILED_STARTS = Counter "embedded_store_failed_starts" [""] {""} "Times that the embedded store could not be started again.";

    DRAINS = Counter "finished" ["drains"] {""} "Drains of the kernel tables.";
    EARLY_DRAINS = Counter "early" ["drains"] {""} "Drains before their time, because the tables filled up.";
    FAILED_DRAINS = Counter "failed" ["drains"] {""} "Drains that failed and were tried again.";
    SINCE_DRAIN = Gauge "since_last_drain" ["seconds"] {""} "Time since the last drain.";
    EVICTED = Counter "table_evicted" ["flows"] {""} "Flows that left full sets of the kernel tables for the list of evicted flows; none is lost.";
    TABLE_FILL = Gauge "table_fill" ["ratio"] {"table"} "How full the fullest CPU's table of flows, and its list of evicted flows, was at the last look.";
    TABLE_BYTES = Gauge "table_memory" ["bytes"] {""} "Kernel memory of the tables.";

    CACHE_HITS = Counter "cache" ["hits"] {""} "Updates that found their flow open.";
    CACHE_MISSES = Counter "cache" ["misses"] {""} "Updates that did not.";
    CACHE_INSERTIONS = Counter "cache" ["insertions"] {""} "Flows that were opened.";
    CACHE_RECORDS = Counter "cache" ["records"] {"cause"} "Flows that left the cache or whose record was emitted, by cause: a flow without packets since its last record leaves without another.";
    CACHE_FLOWS = Gauge "cache" ["flows"] {""} "Open and lingering flows in the cache.";
    CACHE_LIMIT = Gauge "cache_limit" ["flows"] {""} "Flows that the cache may hold now.";
    CACHE_CONFIGURED = Gauge "cache_configured" ["flows"] {""} "Flows that it may hold when memory is not short: the lower of the limits of flows and memory.";
    CACHE_BYTES = Gauge "cache_memory" ["bytes"] {""} "Memory of the cache.";
    CACHE_QUEUED = Gauge "cache_queued" ["messages"] {""} "Messages of drains that wait for a shard.";

    WAITING = Gauge "waiting" ["records"] {"place"} "Records that wait for the store: in the open batch, in frozen ones.";
    WAITING_BATCHES = Gauge "waiting" ["batches"] {""} "Frozen batches that wait for the store, the one under way among them.";
    LATENCY = Histogram "stage_latency" ["seconds"] {"stage"} "How long the stages take.";

    DELIVERY_INSERTS = Counter "delivery" ["inserts"] {"outcome"} "Inserts of batches, by how they ended.";
    DELIVERY_RETRIES = Counter "delivery" ["retries"] {"reason"} "Requests of the delivery that failed and are tried again, by what helps.";
    DELIVERY_DOUBTS = Counter "delivery" ["doubts"] {"end"} "Batches of which it was not known whether the store has them, by how that ended.";
    DELIVERY_IN_FLIGHT = Gauge "delivery_in_flight" ["batches"] {""} "Batches that are being delivered.";
    DELIVERY_ACKNOWLEDGED = Counter "delivery_acknowledged" ["batches"] {""} "Batches that the store has, those of the books among them.";
    DELIVERY_ACKNOWLEDGED_ROWS = Counter "delivery_acknowledged" ["rows"] {""} "Their rows.";
    DELIVERY_QUARANTINED = Counter "delivery_quarantined" ["rows"] {""} "Rows that the store refused, in the quarantine.";
    SINCE_ACKNOWLEDGED = Gauge "since_last_acknowledged" ["seconds"] {""} "Time since the store acknowledged a batch; until the first, since the start.";
    DELIVERY_HELD = Gauge "delivery_held" [""] {""} "1 while all batches wait until somebody does something about the store, else 0.";

    SPOOL_BATCHES = Gauge "spool" ["batches"] {""} "Batches in the spool.";
    SPOOL_ROWS = Gauge "spool" ["rows"] {""} "Their rows.";
    SPOOL_BYTES = Gauge "spool" ["bytes"] {"place"} "What the spool takes: files on disk, blocks in memory.";
    SPOOL_LIMIT = Gauge "spool_limit" ["bytes"] {"place"} "What it may take.";
    SPOOL_OLDEST = Gauge "spool_oldest_age" ["seconds"] {""} "Age of the oldest batch in the spool; 0 if there is none.";
    SPOOL_APPENDED = Counter "spool_appended" ["batches"] {""} "Batches that the spool took in.";
    SPOOL_RECOVERED = Counter "spool_recovered" ["batches"] {""} "Batches that an agent before this one left.";
    SPOOL_LOST = Counter "spool_lost" ["batches"] {"reason"} "Batches that the spool dropped or cannot read back.";
    SPOOL_LOST_ROWS = Counter "spool_lost" ["rows"] {"reason"} "Their rows.";
    SPOOL_CORRUPT = Counter "spool_corrupt" ["batches"] {""} "Batches that cannot be read back, found at the start or later.";
    SPOOL_FAILING = Gauge "spool_failing" [""] {""} "1 while the disk of the spool is full or fails and batches are held in memory, else 0.";
    SPOOL_WRITE_ERRORS = Counter "spool_write" ["errors"] {""} "Operations on files of the spool that failed.";
    SPOOL_SYNC_ERRORS = Counter "spool_sync" ["errors"] {""} "Syncs that failed; what they should have kept was written anew.";
    SPOOL_SYNCS = Counter "spool" ["syncs"] {""} "Syncs of a file.";
    SPOOL_SYNC_TIME = Counter "spool_sync" ["seconds"] {""} "How long they took.";
    STORE_UP = Gauge "store_up" [""] {"endpoint"} "1 unless the last request to this server of the store came to nothing, then 0.";
    STORE_FAILURES = Counter "store" ["failures"] {"endpoint"} "Requests to it that came to nothing: no connection, no answer, one that is none of ClickHouse's, or not able to work.";
    STORE_CONNECTIONS = Counter "store" ["connections"] {"endpoint"} "Connections to it that were begun.";

    MEMORY_USED = Gauge "memory_used" ["bytes"] {"source"} "Memory in use, without what can be dropped.";
    MEMORY_LIMIT = Gauge "memory_limit" ["bytes"] {"source"} "Memory there is.";
    MEMORY_STALL = Gauge "memory_stall" ["ratio"] {""} "Share of the last 10 s in which a task waited for memory (PSI).";
    MEMORY_SHRINKS = Counter "memory" ["shrinks"] {""} "Steps that made the cache smaller for lack of memory.";
    MEMORY_REGROWS = Counter "memory" ["regrows"] {""} "Steps that made it larger again.";

    EVENTS = Counter "found" ["events"] {"kind"} "Events that the analytics found.";
    SUPPRESSED = Counter "suppressed" ["events"] {"kind"} "Events beyond those that an hour may have, which are in no row.";
    LEARNING = Gauge "analytics_learning" [""] {""} "1 while devices and listeners are only learned, else 0.";
    ANALYTICS_RECORDS = Counter "analytics" ["records"] {""} "Records that the analytics looked at.";
    ANALYTICS_SKIPPED = Counter "analytics_skipped" ["records"] {""} "Records that they did not look at, because they could not keep up; all are stored.";
    ANALYTICS_STORED = Counter "analytics_stored" ["rows"] {""} "Rows of events and devices that the store has.";
    ANALYTICS_DROPPED = Counter "analytics_dropped" ["rows"] {""} "Rows of events and devices that were dropped, because the store was away for too long.";
    ANALYTICS_FAILURES = Counter "analytics" ["failures"] {""} "Threads of the analytics that ended by a panic; flows go on without them.";
    ANALYTICS_ENTRIES = Gauge "analytics" ["entries"] {"structure"} "Entries of each structure of the analytics.";
    ANALYTICS_LIMIT = Gauge "analytics_limit" ["entries"] {"structure"} "Entries that it may have.";
    ANALYTICS_FORGOTTEN = Counter "analytics_forgotten" ["entries"] {"structure"} "Entries that had to make room for others.";

    ENRICHMENT_HITS = Counter "enrichment" ["hits"] {"cache"} "Look-ups that a cache of the enrichment answered.";
    ENRICHMENT_MISSES = Counter "enrichment" ["misses"] {"cache"} "Look-ups that it did not answer.";
    ENRICHMENT_INSERTIONS = Counter "enrichment" ["insertions"] {"cache"} "Answers that it took in.";
    ENRICHMENT_EVICTIONS = Counter "enrichment" ["evictions"] {"cache"} "Answers that had to make room for others.";
    ENRICHMENT_REFUSED = Counter "enrichment_refused" ["lookups"] {"cache"} "Look-ups in the background that were not begun, because too many waited.";
    ENRICHMENT_ENTRIES = Gauge "enrichment" ["entries"] {"cache"} "Answers that it holds.";
    ENRICHMENT_LIMIT = Gauge "enrichment_limit" ["entries"] {"cache"} "Answers that it can hold.";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The row of a metric in the document.
    fn row(metric: &Metric) -> String {
        let or_none = |text: &str| match text {
            "" => "-".to_string(),
            text => format!("`{}`", text.replace(", ", "`, `")),
        };
        let kind = metric.kind.label();
        let (unit, labels) = (or_none(metric.unit), or_none(metric.labels));
        format!("| `{}` | {kind} | {unit} | {labels} | {} |", metric.full_name(), metric.help)
    }

    #[test]
    fn every_metric_has_its_row_in_the_document_and_every_row_its_metric() {
        let document = include_str!("../../../../docs/metrics.md");
        let prefix = format!("| `{PREFIX}_");
        let rows: Vec<_> = document.lines().filter(|line| line.starts_with(&prefix)).collect();
        let metrics: Vec<_> = METRICS.iter().map(row).collect();
        assert_eq!(rows, metrics, "docs/metrics.md should have:\n{}", metrics.join("\n"));
    }

    #[test]
    fn names_are_different_and_each_says_what_it_is() {
        let mut names: Vec<_> = METRICS.iter().map(Metric::full_name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
        for metric in METRICS {
            assert!(metric.help.ends_with('.') && !metric.help.contains('\n'), "{metric:?}");
        }
    }
}
