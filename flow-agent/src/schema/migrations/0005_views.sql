CREATE OR REPLACE VIEW {database}.conversations{on_cluster} AS
SELECT
    src_ip,
    dst_ip,
    protocol,
    service_port,
    max(point.packets) AS packets,
    max(point.bytes) AS bytes,
    max(point.reverse_packets) AS reverse_packets,
    max(point.reverse_bytes) AS reverse_bytes,
    max(point.flows) AS flows,
    max(point.unanswered) AS unanswered
FROM
(
    SELECT
        src_ip,
        dst_ip,
        protocol,
        service_port,
        sum(r.packets * r.sampling) AS packets,
        sum(r.bytes * r.sampling) AS bytes,
        sum(r.reverse_packets * r.sampling) AS reverse_packets,
        sum(r.reverse_bytes * r.sampling) AS reverse_bytes,
        sum(r.flows) AS flows,
        sum(r.unanswered) AS unanswered
    FROM {database}.flows_1h AS r
    WHERE r.bucket >= {from:DateTime('UTC')} AND r.bucket < {to:DateTime('UTC')}
    GROUP BY src_ip, dst_ip, protocol, service_port, exporter, interface, direction
) AS point
GROUP BY src_ip, dst_ip, protocol, service_port;

CREATE OR REPLACE VIEW {database}.top_talkers{on_cluster} AS
SELECT
    end.1 AS address,
    sum(end.2) AS bytes_sent,
    sum(end.3) AS bytes_received,
    sum(talk.flows) AS flows,
    uniq(end.4) AS peers
FROM
(
    SELECT
        src_ip,
        dst_ip,
        sum(r.bytes * r.sampling) AS bytes,
        sum(r.reverse_bytes * r.sampling) AS reverse_bytes,
        sum(r.flows) AS flows
    FROM {database}.flows_1h AS r
    WHERE r.bucket >= {from:DateTime('UTC')} AND r.bucket < {to:DateTime('UTC')}
    GROUP BY src_ip, dst_ip
    HAVING min(cityHash64(exporter, interface, direction)) = max(cityHash64(exporter, interface, direction))
    UNION ALL
    SELECT
        src_ip,
        dst_ip,
        max(point.bytes) AS bytes,
        max(point.reverse_bytes) AS reverse_bytes,
        max(point.flows) AS flows
    FROM
    (
        SELECT
            src_ip,
            dst_ip,
            protocol,
            service_port,
            sum(r.bytes * r.sampling) AS bytes,
            sum(r.reverse_bytes * r.sampling) AS reverse_bytes,
            sum(r.flows) AS flows
        FROM {database}.flows_1h AS r
        WHERE r.bucket >= {from:DateTime('UTC')} AND r.bucket < {to:DateTime('UTC')} AND (src_ip, dst_ip) GLOBAL IN
        (
            SELECT src_ip, dst_ip
            FROM {database}.flows_1h AS r
            WHERE r.bucket >= {from:DateTime('UTC')} AND r.bucket < {to:DateTime('UTC')}
            GROUP BY src_ip, dst_ip
            HAVING min(cityHash64(exporter, interface, direction)) != max(cityHash64(exporter, interface, direction))
        )
        GROUP BY src_ip, dst_ip, protocol, service_port, cityHash64(exporter, interface, direction)
    ) AS point
    GROUP BY src_ip, dst_ip, protocol, service_port
) AS talk
ARRAY JOIN [(src_ip, bytes, reverse_bytes, dst_ip), (dst_ip, reverse_bytes, bytes, src_ip)] AS end
GROUP BY address
ORDER BY sum(end.2) + sum(end.3) DESC, address
LIMIT {limit:UInt32};

CREATE OR REPLACE VIEW {database}.bandwidth{on_cluster} AS
SELECT
    bucket AS minute,
    exporter,
    interface,
    sum(multiIf(r.direction = 'ingress', r.bytes, r.direction = 'egress', r.reverse_bytes, r.bytes + r.reverse_bytes) * r.sampling) * 8 / 60 AS received_bits_per_second,
    sum(multiIf(r.direction = 'egress', r.bytes, r.direction = 'ingress', r.reverse_bytes, 0) * r.sampling) * 8 / 60 AS sent_bits_per_second,
    sum((r.bytes + r.reverse_bytes) * r.sampling) * 8 / 60 AS bits_per_second
FROM {database}.flows_1m AS r
WHERE r.bucket >= {from:DateTime('UTC')} AND r.bucket < {to:DateTime('UTC')}
GROUP BY minute, exporter, interface
ORDER BY minute, exporter, interface;

CREATE OR REPLACE VIEW {database}.services{on_cluster} AS
SELECT
    protocol,
    service_port,
    uniqExact(c.dst_ip) AS servers,
    uniqExact(c.src_ip) AS clients,
    sum(c.flows) AS flows,
    sum(c.unanswered) AS unanswered,
    sum(c.bytes) AS bytes,
    sum(c.reverse_bytes) AS reverse_bytes
FROM {database}.conversations(from = {from:DateTime('UTC')}, to = {to:DateTime('UTC')}) AS c
WHERE c.reverse_packets > 0
GROUP BY protocol, service_port
ORDER BY bytes + reverse_bytes DESC, protocol, service_port;

CREATE OR REPLACE VIEW {database}.new_services{on_cluster} AS
SELECT
    dst_ip AS address,
    protocol,
    service_port,
    min(r.bucket) AS first_seen,
    uniqExact(r.src_ip) AS clients,
    sum(r.flows) AS flows
FROM {database}.flows_1h AS r
WHERE r.bucket >= {from:DateTime('UTC')} - toIntervalDay({known_days:UInt32}) AND r.bucket < {to:DateTime('UTC')} AND r.reverse_packets > 0
GROUP BY address, protocol, service_port
HAVING first_seen >= {from:DateTime('UTC')}
ORDER BY first_seen, address, protocol, service_port;

CREATE OR REPLACE VIEW {database}.scanners{on_cluster} AS
SELECT
    src_ip AS address,
    uniqExact(c.dst_ip) AS hosts,
    uniqExact(c.dst_ip, c.protocol, c.service_port) AS services,
    sum(c.flows) AS flows,
    sum(c.unanswered) AS unanswered
FROM {database}.conversations(from = {from:DateTime('UTC')}, to = {to:DateTime('UTC')}) AS c
WHERE c.unanswered > 0
GROUP BY address
HAVING services >= {services:UInt32}
ORDER BY services DESC, address;

CREATE OR REPLACE VIEW {database}.latency_quantiles{on_cluster} AS
SELECT
    stage,
    sum(b.n) AS measured,
    quantilesExactWeighted(0.5, 0.9, 0.99, 0.999)(b.bucket_ns, b.n) AS p50_p90_p99_p999_ns
FROM
(
    SELECT stage, bucket_ns, sum(l.count) AS n
    FROM {database}.latency AS l
    WHERE l.ts >= {from:DateTime('UTC')} AND l.ts < {to:DateTime('UTC')}
    GROUP BY stage, bucket_ns
) AS b
GROUP BY stage
ORDER BY stage;

CREATE OR REPLACE VIEW {database}.ledger_gaps{on_cluster} AS
SELECT
    exporter,
    interface,
    toInt64(sumIf(l.packets, l.stage = 'seen')) - toInt64(sumIf(l.packets, l.stage IN ('metered', 'not_metered', 'lost'))) AS packets_unaccounted,
    sumIf(l.packets, l.stage = 'lost') AS packets_lost,
    toInt64(sumIf(l.packets, l.stage = 'drained')) - toInt64(sumIf(l.packets, l.stage IN ('acknowledged', 'undelivered'))) AS packets_on_their_way,
    toInt64(sumIf(l.packets, l.stage = 'undelivered')) - toInt64(sumIf(l.packets, l.stage = 'resent')) AS packets_undelivered,
    max(l.ts) AS last_counted
FROM {database}.ledger AS l
WHERE l.ts >= {from:DateTime('UTC')} AND l.ts < {to:DateTime('UTC')}
GROUP BY exporter, interface
HAVING packets_unaccounted != 0 OR packets_lost != 0 OR packets_on_their_way != 0 OR packets_undelivered != 0
ORDER BY exporter, interface;

CREATE OR REPLACE VIEW {database}.connections{on_cluster} AS
SELECT
    src_ip,
    src_port,
    dst_ip,
    dst_port,
    protocol,
    min(point.first_packet) AS first_packet,
    max(point.last_packet) AS last_packet,
    groupUniqArrayIf(point.exporter, point.direction = 'egress') AS client_exporters,
    groupUniqArrayIf(point.exporter, point.direction = 'ingress') AS server_exporters,
    maxIf(point.packets, point.direction = 'egress') AS packets_sent,
    minIf(point.packets, point.direction = 'ingress') AS packets_arrived,
    maxIf(point.reverse_packets, point.direction = 'ingress') AS reverse_packets_sent,
    minIf(point.reverse_packets, point.direction = 'egress') AS reverse_packets_arrived,
    maxIf(point.bytes, point.direction = 'egress') AS bytes_sent,
    maxIf(point.reverse_bytes, point.direction = 'ingress') AS reverse_bytes_sent,
    maxIf(point.rtt, point.direction = 'egress') AS client_handshake_rtt_ns,
    maxIf(point.rtt, point.direction = 'ingress') AS server_handshake_rtt_ns
FROM
(
    SELECT
        src_ip,
        src_port,
        dst_ip,
        dst_port,
        protocol,
        exporter,
        interface,
        direction,
        min(f.flow_start) AS first_packet,
        max(f.flow_end) AS last_packet,
        sum(f.packets) AS packets,
        sum(f.bytes) AS bytes,
        sum(f.reverse_packets) AS reverse_packets,
        sum(f.reverse_bytes) AS reverse_bytes,
        max(f.handshake_rtt_ns) AS rtt
    FROM {database}.flows AS f
    WHERE f.exported_at >= {from:DateTime('UTC')} AND f.exported_at < {to:DateTime('UTC')}
    GROUP BY src_ip, src_port, dst_ip, dst_port, protocol, exporter, interface, direction
) AS point
GROUP BY src_ip, src_port, dst_ip, dst_port, protocol
HAVING notEmpty(client_exporters) AND notEmpty(server_exporters);

CREATE OR REPLACE VIEW {database}.anomalies{on_cluster} AS
SELECT e.ts AS ts, e.exporter AS exporter, e.kind AS kind, e.severity AS severity, e.src AS src, e.dst AS dst, e.service AS service, e.value AS value, e.threshold AS threshold, e.message AS message
FROM {database}.events AS e FINAL
WHERE e.ts >= {from:DateTime('UTC')} AND e.ts < {to:DateTime('UTC')} AND e.severity != 'info'
ORDER BY ts DESC;

CREATE OR REPLACE VIEW {database}.recent_events{on_cluster} AS
SELECT *
FROM {database}.events FINAL
WHERE ts > (now() - toIntervalDay(7))
ORDER BY ts DESC;

CREATE OR REPLACE VIEW {database}.device_inventory{on_cluster} AS
SELECT
    d.address AS address,
    d.mac AS mac,
    min(d.first_seen) AS first_seen,
    max(d.last_seen) AS last_seen,
    groupUniqArray(concat(d.exporter, ':', d.interface)) AS seen_by,
    max(d.own) AS own
FROM {database}.devices AS d
GROUP BY d.address, d.mac;
