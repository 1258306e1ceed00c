CREATE OR REPLACE VIEW {database}.observed{on_cluster} AS
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
        exporter,
        interface,
        direction,
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
    GROUP BY exporter, interface, direction, src_ip, dst_ip, protocol, service_port
) AS point
GROUP BY src_ip, dst_ip, protocol, service_port;
