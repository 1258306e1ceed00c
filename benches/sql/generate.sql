-- Realistic flow records, the same for the same numbers: rows {first:UInt64} to
-- {first:UInt64} + {rows:UInt64} of the four hours that begin at {start:DateTime('UTC')}.
-- Twenty hosts of unequal load, each with some thousand peers by Zipf's law, nearly all of them of a
-- few servers; ephemeral ports; sizes with a long tail, many of them repeated; times as the agent
-- has them (whole milliseconds; a last packet in ticks of 4 ms plus the drain's offset);
-- batches of 5 s a host. Into a table of its own first (CREATE TABLE made AS flow.flows), a million
-- rows an insert, then INSERT INTO flow.flows SELECT ... FROM made WHERE exporter = 'host-001' for
-- each of host-001 to host-019: the rollups take the exporter of a block from one of its rows.
WITH
    -- Uniform in [0, 1), one for each purpose.
    (k) -> sipHash64(number, k) / 18446744073709551616. AS u,
    toUInt32(pow(20, u(1))) AS host,
    u(2) AS kind,
    kind < 0.35 AS served, kind >= 0.35 AND kind < 0.64 AS asked, kind >= 0.64 AND kind < 0.72 AS peer,
    kind >= 0.72 AND kind < 0.85 AS dns, kind >= 0.85 AND kind < 0.95 AS outbound,
    kind >= 0.95 AND kind < 0.97 AS icmp, kind >= 0.97 AS noise,
    served OR peer OR noise AS incoming,
    served OR asked OR peer OR outbound AS stream,
    toUInt32(pow(4000, u(3))) AS client_rank,
    toUInt32(pow(100, u(3))) AS inner_rank,
    toUInt32(pow(1000, u(3))) AS site_rank,
    -- The address behind a rank: spread over the public space, one in eight is IPv6.
    (rank, salt) -> if(sipHash64(rank, salt) % 8 = 0,
        toIPv6(concat('2001:db8:', lower(hex(toUInt16(sipHash64(rank, salt, 1)))), ':', lower(hex(toUInt16(sipHash64(rank, salt, 2)))), '::', lower(hex(toUInt16(rank % 65521))))),
        toIPv6(IPv4NumToString(toUInt32(16777216 + sipHash64(rank, salt, 3) % 3700000000)))) AS public,
    (n) -> toIPv6(IPv4NumToString(toUInt32(167772160 + n))) AS private,
    private(256 + host) AS own,
    multiIf(served, public(client_rank, 1000 + host), peer, private(4096 + inner_rank), noise, public(toUInt32(pow(20000, u(3))), 2), own) AS src,
    multiIf(incoming, own, asked, private(4096 + inner_rank), dns, private(53 + toUInt32(u(5) < 0.2)), icmp, private(4096 + inner_rank), public(site_rank, 2000 + host)) AS dst,
    toUInt16(32768 + sipHash64(number, 6) % 28232) AS ephemeral,
    -- Each host serves one thing mostly, each peer another.
    transform(toUInt8(sipHash64(host) % 5), [0, 1, 2, 3, 4], [443, 443, 80, 8080, 22], 443)::UInt16 AS host_port,
    transform(toUInt8(sipHash64(inner_rank) % 8), [0, 1, 2, 3, 4, 5, 6, 7], [5432, 6379, 9092, 8080, 3306, 9200, 443, 2379], 443)::UInt16 AS inner_port,
    multiIf(served, if(u(7) < 0.9, host_port, 443), asked, inner_port, peer, if(u(7) < 0.7, 9100, host_port), dns, 53, outbound, if(u(7) < 0.92, 443, 80), icmp, 0, toUInt16(pow(49152, u(8))))::UInt16 AS port,
    multiIf(dns, 17, icmp, if(length(IPv6NumToString(dst)) > 0 AND startsWith(IPv6NumToString(dst), '::ffff:'), 1, 58), outbound AND u(9) < 0.25, 17, 6)::UInt8 AS proto,
    -- What programs say to each other repeats: six of ten flows have one of a few hundred sizes that
    -- the two sides and the port have in common (probes, scrapes, the same questions), the others
    -- are of their own.
    u(25) < 0.6 AS repeats,
    toUInt32(pow(24, u(26))) AS shape,
    (k) -> if(repeats, sipHash64(host, port, shape, k) / 18446744073709551616., u(k)) AS v,
    -- Lognormal.
    exp(1.6 * sqrt(-2 * log(1 - v(10))) * cos(2 * pi() * v(11))) AS spread,
    multiIf(dns OR noise, 1, icmp, 1 + floor(4 * v(12)), 5 + floor(7 * spread))::UInt64 AS sent,
    multiIf(noise, toUInt64(v(13) < 0.3), dns OR icmp, sent, toUInt64(4 + floor(sent * (0.5 + 0.8 * v(13)))))::UInt64 AS received,
    multiIf(dns, toUInt64(58 + floor(30 * v(14))), icmp, 84 * sent, noise, 40 + 4 * (sipHash64(src, 15) % 6), incoming, toUInt64(sent * (52 + floor(140 * v(14)))), toUInt64(sent * (52 + floor(300 * v(14)))))::UInt64 AS octets,
    multiIf(dns, toUInt64(90 + floor(300 * v(16))), icmp, octets, noise, 40 * received, toUInt64(52 * received + floor(received * 1300 * v(16))))::UInt64 AS reverse_octets,
    toUnixTimestamp({start:DateTime('UTC')}) AS begin,
    begin * 1000000000 + toUInt64(14400e9 * u(17)) AS opened,
    -- A first packet has the precise clock. The last one has the kernel's tick of 4 ms, and what lies
    -- between the tick and the clock when the tables are drained, once a second.
    (t) -> toInt64(intDiv(toInt64(t), 4000000) * 4000000 + (sipHash64(host, intDiv(toInt64(t), 1000000000)) % 4000000)) AS tick,
    toInt64(opened) AS start_ns,
    toInt64(multiIf(stream AND u(24) < 0.06, 6e10 - 2e8 * u(18), noise, 0, dns, 1e6 + 3e7 * u(18), icmp, sent * 1e9, least(59.9e9, 2e8 * spread * (0.2 + u(18))))) AS lasts,
    lasts >= 59800000000 AS active,
    if(lasts = 0, start_ns, greatest(tick(start_ns + lasts), start_ns)) AS end_ns,
    proto = 6 AND NOT noise AND u(19) < 0.93 AS closed,
    intDiv(end_ns, 1000000000) + multiIf(active, 1, closed, 2, 15) AS left_at,
    -- Each host has its own phase of the 5 s.
    (intDiv(left_at + host % 5, 5) + 1) * 5 - host % 5 AS frozen_at,
    sipHash64(host, frozen_at) AS draw,
    sipHash64(frozen_at, host, 2) AS draw2,
    (n) -> leftPad(lower(hex(n)), 16, '0') AS digits,
    toUUID(concat(substring(digits(toUInt64(frozen_at * 1000 + draw % 1000)), 5, 12), '7', substring(digits(draw), 1, 3), substring('89ab', 1 + draw2 % 4, 1), substring(digits(draw2), 1, 15))) AS batch,
    -- What the way takes, and what waits on it.
    if(proto = 6 AND NOT noise AND NOT (active AND u(27) < 0.5), round(exp(log(200000) + 5 * (sipHash64(src, dst) / 18446744073709551616.)) * if(served OR outbound, 20, 1) - 50000 * log(1 - u(20))), 0) AS rtt
SELECT
    fromUnixTimestamp64Nano(intDiv(start_ns, 1000000) * 1000000, 'UTC') AS flow_start,
    fromUnixTimestamp64Nano(intDiv(end_ns, 1000000) * 1000000, 'UTC') AS flow_end,
    toDateTime(frozen_at, 'UTC') AS exported_at,
    concat('host-', leftPad(toString(host), 3, '0')) AS exporter,
    if(served OR outbound OR noise, 'eth0', 'eth1') AS interface,
    if(incoming, 'ingress', 'egress') AS direction,
    src AS src_ip, dst AS dst_ip,
    if(icmp, 0, ephemeral)::UInt16 AS src_port, port AS dst_port, proto AS protocol,
    sent AS packets, octets AS bytes, received AS reverse_packets, reverse_octets AS reverse_bytes,
    multiIf(proto != 6, 0, noise, 2, closed, 27, 26)::UInt8 AS tcp_flags,
    multiIf(proto != 6, 0, noise, if(received > 0, 20, 0), closed, 27, 26)::UInt8 AS reverse_tcp_flags,
    multiIf(icmp AND proto = 1, 8, icmp, 128, 0)::UInt8 AS icmp_type,
    if(stream AND u(21) < 0.05, 8, 0)::UInt8 AS dscp,
    (if(incoming, 64 - sipHash64(src) % 24, 64))::UInt8 AS min_ttl, min_ttl AS max_ttl,
    toUInt64(intDiv(rtt, 1000) * 1000) AS handshake_rtt_ns,
    if(proto = 6 AND u(22) < 0.03, toUInt32(1 + 3 * u(23)), 0) AS retransmits,
    transform(port, [443, 80, 8080, 22, 53, 5432, 6379, 9092, 3306, 9200, 2379, 9100], ['https', 'http', 'http-alt', 'ssh', 'domain', 'postgresql', 'redis', 'kafka', 'mysql', 'elasticsearch', 'etcd', 'node-exporter'], '') AS service,
    multiIf(active, 'active_timeout', closed, 'end_of_flow', 'idle_timeout') AS flow_end_reason,
    multiIf(proto = 6, 'syn', icmp, 'icmp', 'service_port') AS initiator_by,
    batch AS batch_id,
    if(served OR outbound, ['US', 'DE', 'NL', 'FR', 'GB', 'CN', 'BR', 'IN'][1 + sipHash64(src, dst) % 8], '') AS src_country,
    if(outbound, ['US', 'DE', 'NL', 'IE'][1 + sipHash64(dst) % 4], '') AS dst_country,
    if(served, toUInt32(1000 + sipHash64(src) % 3000), 0) AS src_asn,
    if(outbound, toUInt32(1000 + sipHash64(dst) % 300), 0) AS dst_asn,
    multiIf(served, 'nginx.service', asked OR dns, 'app.service', outbound, 'worker.service', '') AS unit
FROM numbers({first:UInt64}, {rows:UInt64})
