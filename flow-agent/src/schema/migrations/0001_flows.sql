CREATE DATABASE IF NOT EXISTS {database};

CREATE TABLE IF NOT EXISTS {database}.flows
(
    flow_start DateTime64(9, 'UTC') COMMENT 'First packet' CODEC(Delta(8), ZSTD(1)),
    flow_end DateTime64(9, 'UTC') COMMENT 'Last packet' CODEC(Delta(8), ZSTD(1)),
    exported_at DateTime('UTC') COMMENT 'When the batch was frozen; partitions and TTL derive from it' CODEC(Delta(4), ZSTD(1)),
    exporter LowCardinality(String) COMMENT 'Host that metered the flow',
    interface LowCardinality(String) COMMENT 'Observation point on that host',
    direction Enum8('unknown' = 0, 'ingress' = 1, 'egress' = 2) COMMENT 'Of the packets of src at this interface',
    src_ip IPv6 COMMENT 'Initiator; IPv4 is mapped (::ffff:a.b.c.d)' CODEC(ZSTD(1)),
    dst_ip IPv6 COMMENT 'The other side' CODEC(ZSTD(1)),
    src_port UInt16 COMMENT '0 where the protocol has no ports' CODEC(ZSTD(1)),
    dst_port UInt16 CODEC(ZSTD(1)),
    protocol UInt8 COMMENT 'IANA protocol number',
    packets UInt64 COMMENT 'From src' CODEC(T64, ZSTD(1)),
    bytes UInt64 COMMENT 'IP octets from src' CODEC(T64, ZSTD(1)),
    reverse_packets UInt64 COMMENT 'From dst' CODEC(T64, ZSTD(1)),
    reverse_bytes UInt64 COMMENT 'IP octets from dst' CODEC(T64, ZSTD(1)),
    tcp_flags UInt8 COMMENT 'OR of the flags src sent',
    reverse_tcp_flags UInt8 COMMENT 'OR of the flags dst sent',
    icmp_type UInt8 COMMENT 'Of the request',
    icmp_code UInt8,
    vlan_id UInt16 COMMENT 'Outer tag, 0 if none',
    inner_vlan_id UInt16 COMMENT 'Next tag, 0 if none',
    dscp UInt8,
    min_ttl UInt8,
    max_ttl UInt8,
    tunnel_type Enum8('none' = 0, 'vxlan' = 1, 'geneve' = 2, 'gre' = 3, 'ipip' = 4, 'gtpu' = 5) DEFAULT 'none' COMMENT 'What the packets came in, with decapsulate',
    tunnel_id UInt32 DEFAULT 0 COMMENT 'VNI, GRE key or TEID, 0 if none',
    tunnel_src IPv6 DEFAULT '::' COMMENT 'Outer source of the packets of src' CODEC(ZSTD(1)),
    tunnel_dst IPv6 DEFAULT '::' COMMENT 'Outer destination of the packets of src' CODEC(ZSTD(1)),
    handshake_rtt_ns UInt64 COMMENT 'From this host to the other end and back; 0 if not seen' CODEC(T64, ZSTD(1)),
    retransmits UInt32 COMMENT 'TCP segments that were sent before, both ways' CODEC(T64, ZSTD(1)),
    service LowCardinality(String) COMMENT 'Name by port, empty if unknown',
    flow_end_reason Enum8('idle_timeout' = 1, 'active_timeout' = 2, 'end_of_flow' = 3, 'forced_end' = 4, 'lack_of_resources' = 5),
    initiator_by Enum8('syn' = 1, 'icmp' = 2, 'service_port' = 3, 'first_packet' = 4) COMMENT 'Rule that chose src',
    sampling UInt32 DEFAULT 1 COMMENT 'Each packet stands for so many',
    batch_id UUID COMMENT 'Insert that brought the row' CODEC(ZSTD(1)),
    community_id String ALIAS {community_id} COMMENT 'Community ID v1, seed 0'
)
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(exported_at)
ORDER BY (toStartOfHour(flow_start), exporter, src_ip, dst_ip, flow_start)
TTL exported_at + INTERVAL 15 DAY
SETTINGS {settings};

CREATE TABLE IF NOT EXISTS {database}.ledger
(
    ts DateTime('UTC') COMMENT 'End of the interval counted' CODEC(Delta(4), ZSTD(1)),
    exporter LowCardinality(String),
    interface LowCardinality(String),
    stage LowCardinality(String) COMMENT 'seen = metered + not_metered + lost; drained = acknowledged + undelivered + open flows',
    reason LowCardinality(String),
    packets UInt64 CODEC(T64, ZSTD(1)),
    octets UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(ts)
ORDER BY (exporter, interface, stage, reason, ts)
TTL ts + INTERVAL 400 DAY
SETTINGS {settings};

CREATE TABLE IF NOT EXISTS {database}.latency
(
    ts DateTime('UTC') COMMENT 'End of the interval counted' CODEC(Delta(4), ZSTD(1)),
    exporter LowCardinality(String),
    stage LowCardinality(String),
    bucket_ns UInt64 COMMENT 'Upper bound; the same buckets on every host' CODEC(ZSTD(1)),
    count UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(ts)
ORDER BY (exporter, stage, ts, bucket_ns)
TTL ts + INTERVAL 90 DAY
SETTINGS {settings};
