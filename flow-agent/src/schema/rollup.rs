//! The rollups of `flows`: one definition of the sums for the view that fills a rollup and for the
//! statement that repairs it.
//!
//! Each insert into `flows` becomes one block of each rollup: the sums, and one marker row with the
//! batch's id and how many rows were summed. One block is one part, so a rollup holds a batch's
//! sums exactly when it holds its marker.

/// A rollup of `flows`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rollup {
    /// Its table.
    pub table: &'static str,
    /// What makes a bucket of the end of a flow.
    bucket: &'static str,
}

const MINUTE: Rollup = Rollup { table: "flows_1m", bucket: "toStartOfMinute" };
/// Its view takes what goes into `flows_1m`: there is less of it than of rows.
const HOUR: Rollup = Rollup { table: "flows_1h", bucket: "toStartOfHour" };

/// All of them.
pub(super) const ROLLUPS: &[Rollup] = &[MINUTE, HOUR];

/// Columns, engine and order of each rollup. The marker's bucket is 0, so it lies at the front of
/// a part, where it is found at once and where no question about a time looks.
pub(super) const COLUMNS: &str = "\
(
    exported_day Date COMMENT 'When the batch was frozen; partitions and TTL derive from it' CODEC(ZSTD(1)),
    bucket DateTime('UTC') COMMENT 'Start of the minute or hour in which the flows ended; 0 for the marker of a batch' CODEC(Delta(4), ZSTD(1)),
    exporter LowCardinality(String) COMMENT 'Host that metered the flows' CODEC(ZSTD(1)),
    interface LowCardinality(String) COMMENT 'Observation point on that host' CODEC(ZSTD(1)),
    direction Enum8('unknown' = 0, 'ingress' = 1, 'egress' = 2) COMMENT 'Of the packets of src at this interface' CODEC(ZSTD(1)),
    src_ip IPv6 COMMENT 'Initiator; IPv4 is mapped (::ffff:a.b.c.d)' CODEC(ZSTD(1)),
    dst_ip IPv6 COMMENT 'The other side' CODEC(ZSTD(1)),
    protocol UInt8 COMMENT 'IANA protocol number' CODEC(ZSTD(1)),
    service_port UInt16 COMMENT 'Port that was asked: dst_port of the flows' CODEC(ZSTD(1)),
    sampling UInt32 DEFAULT 1 COMMENT 'Each packet stands for so many' CODEC(ZSTD(1)),
    packets UInt64 COMMENT 'From src' CODEC(T64, ZSTD(1)),
    bytes UInt64 COMMENT 'IP octets from src' CODEC(T64, ZSTD(1)),
    reverse_packets UInt64 COMMENT 'From dst' CODEC(T64, ZSTD(1)),
    reverse_bytes UInt64 COMMENT 'IP octets from dst' CODEC(T64, ZSTD(1)),
    flows UInt64 COMMENT 'Rows of flows' CODEC(T64, ZSTD(1)),
    unanswered UInt64 COMMENT 'Rows without a packet from dst' CODEC(T64, ZSTD(1)),
    batch_id UUID COMMENT 'Of the marker of a batch; else 0' CODEC(ZSTD(1)),
    batch_rows UInt64 COMMENT 'Of the marker: rows of the batch; else 0' CODEC(ZSTD(1)),
    repaired UInt8 COMMENT '1 in what a repair added, after the first insert was cut off' CODEC(ZSTD(1))
)
ENGINE = {replicated}SummingMergeTree((packets, bytes, reverse_packets, reverse_bytes, flows, unanswered, batch_rows))
PARTITION BY exported_day
ORDER BY (bucket, exporter, src_ip, dst_ip, service_port, protocol, interface, direction, sampling, batch_id)";

/// Columns that tell the rows of a rollup apart beside bucket and exporter, and of what they are.
const KEYS: [(&str, &str); 7] = [
    ("interface", "f.interface"),
    ("direction", "f.direction"),
    ("src_ip", "f.src_ip"),
    ("dst_ip", "f.dst_ip"),
    ("protocol", "f.protocol"),
    ("service_port", "f.dst_port"),
    ("sampling", "f.sampling"),
];

/// Columns that are summed, and how.
const SUMS: [(&str, &str); 6] = [
    ("packets", "sum(f.packets)"),
    ("bytes", "sum(f.bytes)"),
    ("reverse_packets", "sum(f.reverse_packets)"),
    ("reverse_bytes", "sum(f.reverse_bytes)"),
    ("flows", "count()"),
    ("unanswered", "countIf(f.reverse_packets = 0)"),
];

/// What the views of the rollups select, in the order of [`ROLLUPS`].
pub(super) fn selects(local: &str) -> [String; 2] {
    let keys = list(&KEYS, |(name, _)| (*name).to_owned());
    let sums = list(&SUMS, |(name, _)| (*name).to_owned());
    // What repairs the minutes must not be added to hours that have it.
    let hours = format!(
        "SELECT exported_day, toStartOfHour(bucket) AS bucket, exporter, {keys}, {sums}, \
         batch_id, batch_rows, 0 AS repaired FROM {local}.{} AS m WHERE m.repaired = 0",
        MINUTE.table
    );
    [MINUTE.sums(local, "", 0), hours]
}

impl Rollup {
    /// A statement that adds one batch of `flows`.
    pub(super) fn repair(self, local: &str, moment: &str) -> String {
        let only = format!("WHERE {moment} AND batch_id = {{id:UUID}} ");
        let sums = self.sums(local, &only, 1);
        // One block, as the views have it.
        format!(
            "INSERT INTO {local}.{} ({}) {sums} SETTINGS max_threads = 1, max_insert_threads = 1, \
             min_insert_block_size_rows = 1048449, min_insert_block_size_bytes = 1073741824",
            self.table,
            columns()
        )
    }

    /// Sums of rows of `flows`, and a marker for each batch in it.
    fn sums(self, local: &str, only: &str, repaired: u8) -> String {
        let keys = list(&KEYS, |(name, of)| format!("{of} AS {name}"));
        let names = list(&KEYS, |(name, _)| (*name).to_owned());
        let sums = list(&SUMS, |(name, of)| format!("if(grouping(src_ip) = 0, {of}, 0) AS {name}"));
        let bucket = self.bucket;
        // A batch comes from one exporter and lies on one day.
        format!(
            "SELECT toDate(any(f.exported_at)) AS exported_day, \
             if(grouping(src_ip) = 0, {bucket}(f.flow_end) AS start, toDateTime(0, 'UTC')) AS bucket, \
             any(f.exporter) AS exporter, {keys}, {sums}, f.batch_id AS batch_id, \
             if(grouping(src_ip) = 1, count(), 0) AS batch_rows, {repaired} AS repaired \
             FROM {local}.flows AS f {only}GROUP BY GROUPING SETS ((start, {names}), (batch_id))"
        )
    }
}

/// The columns in the order in which they are selected.
fn columns() -> String {
    let keys = list(&KEYS, |(name, _)| (*name).to_owned());
    let sums = list(&SUMS, |(name, _)| (*name).to_owned());
    format!("exported_day, bucket, exporter, {keys}, {sums}, batch_id, batch_rows, repaired")
}

fn list<T>(columns: &[T], text: impl Fn(&T) -> String) -> String {
    columns.iter().map(text).collect::<Vec<_>>().join(", ")
}
