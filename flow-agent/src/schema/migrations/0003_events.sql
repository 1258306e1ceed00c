CREATE TABLE IF NOT EXISTS {database}.events
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
ENGINE = ReplacingMergeTree(revision)
PARTITION BY toYYYYMM(ts)
ORDER BY (toStartOfHour(ts), exporter, kind, id)
TTL toDateTime(ts) + INTERVAL 400 DAY
SETTINGS {settings};

CREATE VIEW IF NOT EXISTS {database}.recent_events AS
SELECT * FROM {database}.events FINAL
WHERE ts > now() - INTERVAL 7 DAY
ORDER BY ts DESC;

CREATE TABLE IF NOT EXISTS {database}.devices
(
    address IPv6 COMMENT 'IPv4 is mapped (::ffff:a.b.c.d)',
    mac String COMMENT 'Empty if unknown',
    exporter LowCardinality(String) COMMENT 'Host that saw it',
    interface LowCardinality(String) COMMENT 'Where it is',
    own SimpleAggregateFunction(max, UInt8) COMMENT '1 for an address of the exporter itself',
    first_seen SimpleAggregateFunction(min, DateTime('UTC')) COMMENT 'By this exporter, with this MAC',
    last_seen SimpleAggregateFunction(max, DateTime('UTC')) COMMENT 'By this exporter, with this MAC'
)
ENGINE = AggregatingMergeTree
ORDER BY (address, mac, exporter, interface)
TTL last_seen + INTERVAL 400 DAY
SETTINGS {settings};

CREATE VIEW IF NOT EXISTS {database}.device_inventory AS
SELECT
    d.address AS address,
    d.mac AS mac,
    min(d.first_seen) AS first_seen,
    max(d.last_seen) AS last_seen,
    groupUniqArray(concat(d.exporter, ':', d.interface)) AS seen_by,
    max(d.own) AS own
FROM {database}.devices AS d
GROUP BY d.address, d.mac;
