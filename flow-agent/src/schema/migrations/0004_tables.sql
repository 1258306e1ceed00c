CREATE DATABASE IF NOT EXISTS {local}{on_cluster};

CREATE TABLE IF NOT EXISTS {local}.flows{on_cluster}
(
    flow_start DateTime64(9, 'UTC') COMMENT 'First packet' CODEC(GCD, T64, ZSTD(1)),
    flow_end DateTime64(9, 'UTC') COMMENT 'Last packet' CODEC(GCD, Delta(8), ZSTD(1)),
    exported_at DateTime('UTC') COMMENT 'When the batch was frozen; partitions and TTL derive from it' CODEC(Delta(4), ZSTD(1)),
    exporter LowCardinality(String) COMMENT 'Host that metered the flow' CODEC(ZSTD(1)),
    interface LowCardinality(String) COMMENT 'Observation point on that host' CODEC(ZSTD(1)),
    direction Enum8('unknown' = 0, 'ingress' = 1, 'egress' = 2) COMMENT 'Of the packets of src at this interface' CODEC(ZSTD(1)),
    src_ip IPv6 COMMENT 'Initiator; IPv4 is mapped (::ffff:a.b.c.d)' CODEC(ZSTD(1)),
    dst_ip IPv6 COMMENT 'The other side' CODEC(ZSTD(1)),
    src_port UInt16 COMMENT '0 where the protocol has no ports' CODEC(ZSTD(1)),
    dst_port UInt16 CODEC(ZSTD(1)),
    protocol UInt8 COMMENT 'IANA protocol number' CODEC(ZSTD(1)),
    packets UInt64 COMMENT 'From src' CODEC(T64, ZSTD(1)),
    bytes UInt64 COMMENT 'IP octets from src' CODEC(T64, ZSTD(1)),
    reverse_packets UInt64 COMMENT 'From dst' CODEC(T64, ZSTD(1)),
    reverse_bytes UInt64 COMMENT 'IP octets from dst' CODEC(T64, ZSTD(1)),
    tcp_flags UInt8 COMMENT 'OR of the flags src sent' CODEC(ZSTD(1)),
    reverse_tcp_flags UInt8 COMMENT 'OR of the flags dst sent' CODEC(ZSTD(1)),
    icmp_type UInt8 COMMENT 'Of the request' CODEC(ZSTD(1)),
    icmp_code UInt8 CODEC(ZSTD(1)),
    vlan_id UInt16 COMMENT 'Outer tag, 0 if none' CODEC(ZSTD(1)),
    inner_vlan_id UInt16 COMMENT 'Next tag, 0 if none' CODEC(ZSTD(1)),
    dscp UInt8 CODEC(ZSTD(1)),
    min_ttl UInt8 CODEC(ZSTD(1)),
    max_ttl UInt8 CODEC(ZSTD(1)),
    tunnel_type Enum8('none' = 0, 'vxlan' = 1, 'geneve' = 2, 'gre' = 3, 'ipip' = 4, 'gtpu' = 5) DEFAULT 'none' COMMENT 'What the packets came in, with decapsulate',
    tunnel_id UInt32 DEFAULT 0 COMMENT 'VNI, GRE key or TEID, 0 if none',
    tunnel_src IPv6 DEFAULT '::' COMMENT 'Outer source of the packets of src' CODEC(ZSTD(1)),
    tunnel_dst IPv6 DEFAULT '::' COMMENT 'Outer destination of the packets of src' CODEC(ZSTD(1)),
    handshake_rtt_ns UInt64 COMMENT 'From this host to the other end and back; 0 if not seen' CODEC(GCD, T64, ZSTD(1)),
    retransmits UInt32 COMMENT 'TCP segments that were sent before, both ways' CODEC(ZSTD(1)),
    service LowCardinality(String) COMMENT 'Name by port, empty if unknown' CODEC(ZSTD(1)),
    flow_end_reason Enum8('idle_timeout' = 1, 'active_timeout' = 2, 'end_of_flow' = 3, 'forced_end' = 4, 'lack_of_resources' = 5) CODEC(ZSTD(1)),
    initiator_by Enum8('syn' = 1, 'icmp' = 2, 'service_port' = 3, 'first_packet' = 4) COMMENT 'Rule that chose src' CODEC(ZSTD(1)),
    sampling UInt32 DEFAULT 1 COMMENT 'Each packet stands for so many' CODEC(ZSTD(1)),
    batch_id UUID COMMENT 'Insert that brought the row' CODEC(ZSTD(1)),
    community_id String ALIAS {community_id} COMMENT 'Community ID v1, seed 0',
    src_country LowCardinality(String) COMMENT 'ISO 3166-1 code by GeoIP, empty if unknown' CODEC(ZSTD(1)),
    dst_country LowCardinality(String) COMMENT 'ISO 3166-1 code by GeoIP, empty if unknown' CODEC(ZSTD(1)),
    src_asn UInt32 COMMENT 'Autonomous system, 0 if unknown' CODEC(T64, ZSTD(1)),
    dst_asn UInt32 COMMENT 'Autonomous system, 0 if unknown' CODEC(T64, ZSTD(1)),
    src_host String COMMENT 'Host name by reverse look-up, empty if unknown' CODEC(ZSTD(1)),
    dst_host String COMMENT 'Host name by reverse look-up, empty if unknown' CODEC(ZSTD(1)),
    unit LowCardinality(String) COMMENT 'systemd unit or container of the local end, empty if unknown' CODEC(ZSTD(1)),
    INDEX src_ip_index src_ip TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX dst_ip_index dst_ip TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = {replicated}MergeTree
PARTITION BY toYYYYMMDD(exported_at)
ORDER BY (toStartOfHour(exported_at), exporter, exported_at, dst_port, flow_end)
TTL exported_at + toIntervalDay({flows_days})
SETTINGS {settings};

CREATE TABLE IF NOT EXISTS {local}.flows_1m{on_cluster}
{rollup_columns}
TTL exported_day + toIntervalDay({flows_1m_days}), exported_day + toIntervalDay({marker_days}) WHERE batch_rows > 0
SETTINGS {settings};

CREATE TABLE IF NOT EXISTS {local}.flows_1h{on_cluster}
{rollup_columns}
TTL exported_day + toIntervalDay({flows_1h_days}), exported_day + toIntervalDay({marker_days}) WHERE batch_rows > 0
SETTINGS {settings};

CREATE MATERIALIZED VIEW IF NOT EXISTS {local}.flows_1m_view{on_cluster} TO {local}.flows_1m
AS {flows_1m_select};

CREATE MATERIALIZED VIEW IF NOT EXISTS {local}.flows_1h_view{on_cluster} TO {local}.flows_1h
AS {flows_1h_select};

CREATE TABLE IF NOT EXISTS {local}.ledger{on_cluster}
(
    ts DateTime('UTC') COMMENT 'End of the interval counted' CODEC(Delta(4), ZSTD(1)),
    exporter LowCardinality(String),
    interface LowCardinality(String),
    stage LowCardinality(String) COMMENT 'seen = metered + not_metered + lost; drained = acknowledged + undelivered + open flows; resent: was undelivered, and is stored',
    reason LowCardinality(String),
    packets UInt64 CODEC(T64, ZSTD(1)),
    octets UInt64 CODEC(T64, ZSTD(1)),
    batch_id UUID COMMENT 'Insert that brought the row' CODEC(ZSTD(1))
)
ENGINE = {replicated}MergeTree
PARTITION BY toYYYYMM(ts)
ORDER BY (exporter, interface, stage, reason, ts)
TTL ts + toIntervalDay(400)
SETTINGS {settings};

CREATE TABLE IF NOT EXISTS {local}.latency{on_cluster}
(
    ts DateTime('UTC') COMMENT 'End of the interval counted' CODEC(Delta(4), ZSTD(1)),
    exporter LowCardinality(String),
    stage LowCardinality(String),
    bucket_ns UInt64 COMMENT 'Upper bound; the same buckets on every host' CODEC(ZSTD(1)),
    count UInt64 CODEC(T64, ZSTD(1)),
    batch_id UUID COMMENT 'Insert that brought the row' CODEC(ZSTD(1))
)
ENGINE = {replicated}MergeTree
PARTITION BY toYYYYMM(ts)
ORDER BY (exporter, stage, ts, bucket_ns)
TTL ts + toIntervalDay(90)
SETTINGS {settings};

CREATE TABLE IF NOT EXISTS {local}.events{on_cluster}
(
    ts DateTime64(3, 'UTC') COMMENT 'When it was found' CODEC(Delta(8), ZSTD(1)),
    id UUID COMMENT 'The same in all revisions of one event' CODEC(ZSTD(1)),
    revision UInt32 COMMENT 'From 1; the highest one is how it is now' CODEC(T64, ZSTD(1)),
    exporter LowCardinality(String) COMMENT 'Host that found it',
    kind LowCardinality(String) COMMENT 'new_device, mac_changed, new_listener, port_scan, host_scan, syn_flood, traffic_rise, traffic_drop',
    severity LowCardinality(String) COMMENT 'info, warning, critical',
    interface LowCardinality(String) COMMENT 'Where it was seen first',
    src IPv6 COMMENT 'Who did it; :: for nobody or many' CODEC(ZSTD(1)),
    dst IPv6 COMMENT 'To whom; :: for nobody or many' CODEC(ZSTD(1)),
    port UInt16 COMMENT '0 for none or many' CODEC(ZSTD(1)),
    protocol UInt8 COMMENT 'IANA protocol number, 0 for none or several',
    service LowCardinality(String) COMMENT 'Name by port, empty if unknown',
    value Float64 COMMENT 'What was measured, at most so far' CODEC(ZSTD(1)),
    threshold Float64 COMMENT 'What it was compared with' CODEC(ZSTD(1)),
    count UInt64 COMMENT 'Flow records (minutes, looks) that belong to it' CODEC(T64, ZSTD(1)),
    first DateTime64(3, 'UTC') COMMENT 'First packet that belongs to it' CODEC(Delta(8), ZSTD(1)),
    last DateTime64(3, 'UTC') COMMENT 'Last packet that belongs to it' CODEC(Delta(8), ZSTD(1)),
    message String COMMENT 'For people' CODEC(ZSTD(3)),
    details Map(LowCardinality(String), String) COMMENT 'What else there is to know' CODEC(ZSTD(1))
)
ENGINE = {replicated}ReplacingMergeTree(revision)
PARTITION BY toYYYYMM(ts)
ORDER BY (toStartOfHour(ts), exporter, kind, id)
TTL toDateTime(ts) + toIntervalDay(400)
SETTINGS {settings};

CREATE TABLE IF NOT EXISTS {local}.devices{on_cluster}
(
    address IPv6 COMMENT 'IPv4 is mapped (::ffff:a.b.c.d)',
    mac String COMMENT 'Empty if unknown',
    exporter LowCardinality(String) COMMENT 'Host that saw it',
    interface LowCardinality(String) COMMENT 'Where it is',
    own SimpleAggregateFunction(max, UInt8) COMMENT '1 for an address of the exporter itself',
    first_seen SimpleAggregateFunction(min, DateTime('UTC')) COMMENT 'By this exporter, with this MAC',
    last_seen SimpleAggregateFunction(max, DateTime('UTC')) COMMENT 'By this exporter, with this MAC'
)
ENGINE = {replicated}AggregatingMergeTree
ORDER BY (address, mac, exporter, interface)
TTL last_seen + toIntervalDay(400)
SETTINGS {settings};
