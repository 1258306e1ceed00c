//! A flow's addresses, protocol, ports or ICMP type enter, its Community ID leaves: the text that
//! Zeek, Suricata and others give the same flow, whichever direction they saw first.
//!
//! Version 1, seed 0 (github.com/corelight/community-id-spec): `1:` and the base64 of the SHA-1 of
//! seed, smaller endpoint's address, larger one's, protocol, a zero, their ports. The table derives
//! it on read with [`COMMUNITY_ID_SQL`]; both must give the same text.

use std::net::Ipv6Addr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Protocols whose ports (or ICMP types) are part of the ID: ICMP, TCP, UDP, ICMPv6, SCTP.
const WITH_PORTS: [u8; 5] = [ICMP, 6, 17, ICMPV6, 132];

/// ICMP types that answer each other, both ways.
const ICMP_PAIRS: [(u8, u8); 5] = [(8, 0), (10, 9), (13, 14), (15, 16), (17, 18)];

/// The same for `ICMPv6`.
const ICMPV6_PAIRS: [(u8, u8); 6] =
    [(128, 129), (130, 131), (133, 134), (135, 136), (139, 140), (144, 145)];

/// The Community ID of a flow; IPv4 addresses are given mapped (`::ffff:a.b.c.d`). Ports count for
/// TCP, UDP and SCTP, type and code for ICMP and `ICMPv6`.
pub fn community_id(
    src: Ipv6Addr,
    dst: Ipv6Addr,
    protocol: u8,
    (src_port, dst_port): (u16, u16),
    (icmp_type, icmp_code): (u8, u8),
) -> String {
    let (src_port, dst_port, one_way) = match protocol {
        ICMP => icmp_as_ports(&ICMP_PAIRS, icmp_type, icmp_code),
        ICMPV6 => icmp_as_ports(&ICMPV6_PAIRS, icmp_type, icmp_code),
        _ => (src_port, dst_port, false),
    };
    let mut endpoints = [(src, src_port), (dst, dst_port)];
    if !one_way {
        endpoints.sort_unstable();
    }
    let [(first, first_port), (second, second_port)] = endpoints;

    let mut hash = Sha1::new();
    hash.update([0, 0]);
    if let (Some(first), Some(second)) = (first.to_ipv4_mapped(), second.to_ipv4_mapped()) {
        hash.update(first.octets());
        hash.update(second.octets());
    } else {
        hash.update(first.octets());
        hash.update(second.octets());
    }
    hash.update([protocol, 0]);
    if WITH_PORTS.contains(&protocol) {
        hash.update(first_port.to_be_bytes());
        hash.update(second_port.to_be_bytes());
    }
    format!("1:{}", STANDARD.encode(hash.finalize()))
}

/// What stands for an ICMP message's ports: its type and the type that answers it; or, for a
/// message without an answer, type and code, and `true`: its endpoints keep their order.
fn icmp_as_ports(pairs: &[(u8, u8)], icmp_type: u8, icmp_code: u8) -> (u16, u16, bool) {
    let counterpart = pairs.iter().find_map(|(request, reply)| match icmp_type {
        kind if kind == *request => Some(*reply),
        kind if kind == *reply => Some(*request),
        _ => None,
    });
    match counterpart {
        Some(answer) => (u16::from(icmp_type), u16::from(answer), false),
        None => (u16::from(icmp_type), u16::from(icmp_code), true),
    }
}

/// The same as a ClickHouse expression over the columns `src_ip`, `dst_ip` (`IPv6`), `src_port`,
/// `dst_port` (`UInt16`), `protocol`, `icmp_type` and `icmp_code` (`UInt8`).
///
/// The lambdas stand for local names: `s` and `d` are the endpoints' ports (or ICMP types), `w`
/// tells a message that has no answer; then `x` and `y` are the endpoints in order.
pub const COMMUNITY_ID_SQL: &str = "\
arrayMap((s, d, w) -> arrayMap((x, y) -> concat('1:', base64Encode(SHA1(concat(\
unhex('0000'), \
if(src_ip BETWEEN toIPv6('::ffff:0.0.0.0') AND toIPv6('::ffff:255.255.255.255') \
AND dst_ip BETWEEN toIPv6('::ffff:0.0.0.0') AND toIPv6('::ffff:255.255.255.255'), \
concat(unhex(substring(hex(x.1), 25)), unhex(substring(hex(y.1), 25))), \
concat(unhex(hex(x.1)), unhex(hex(y.1)))), \
char(protocol, 0), \
if(protocol IN (1, 6, 17, 58, 132), \
char(intDiv(x.2, 256), x.2 % 256, intDiv(y.2, 256), y.2 % 256), ''))))), \
[if(w OR (src_ip, s) <= (dst_ip, d), (src_ip, s), (dst_ip, d))], \
[if(w OR (src_ip, s) <= (dst_ip, d), (dst_ip, d), (src_ip, s))])[1], \
[if(protocol IN (1, 58), toUInt16(icmp_type), src_port)], \
[multiIf(\
protocol = 1, toUInt16(transform(icmp_type, [0, 8, 9, 10, 13, 14, 15, 16, 17, 18], \
[8, 0, 10, 9, 14, 13, 16, 15, 18, 17], icmp_code)), \
protocol = 58, toUInt16(transform(icmp_type, \
[128, 129, 130, 131, 133, 134, 135, 136, 139, 140, 144, 145], \
[129, 128, 131, 130, 134, 133, 136, 135, 140, 139, 145, 144], icmp_code)), \
dst_port)], \
[(protocol = 1 AND icmp_type NOT IN (0, 8, 9, 10, 13, 14, 15, 16, 17, 18)) \
OR (protocol = 58 AND icmp_type NOT IN \
(128, 129, 130, 131, 133, 134, 135, 136, 139, 140, 144, 145))])[1]";

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn id(src: &str, dst: &str, protocol: u8, ports: (u16, u16), icmp: (u8, u8)) -> String {
        let address = |text: &str| match text.parse().unwrap() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        community_id(address(src), address(dst), protocol, ports, icmp)
    }

    /// From `baseline/baseline_deflt.json` of the specification.
    #[test]
    fn published_ids() {
        let v6 = ["2001:470:e5bf:dead:4957:2174:e82c:4887", "2607:f8b0:400c:c03::1a"];
        for (src, dst, protocol, ports, expected) in [
            ("128.232.110.120", "66.35.250.204", 6, (34855, 80), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
            ("66.35.250.204", "128.232.110.120", 6, (80, 34855), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
            ("192.168.1.52", "8.8.8.8", 17, (54585, 53), "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
            ("8.8.8.8", "192.168.1.52", 17, (53, 54585), "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
            ("192.168.170.8", "192.168.170.56", 132, (7, 7), "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="),
            ("10.1.12.1", "10.1.12.2", 46, (0, 0), "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="),
            ("10.1.12.2", "10.1.12.1", 46, (0, 0), "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="),
            (v6[0], v6[1], 6, (63943, 25), "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4="),
            (v6[1], v6[0], 6, (25, 63943), "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4="),
        ] {
            assert_eq!(id(src, dst, protocol, ports, (0, 0)), expected, "{src} {dst}");
        }
    }

    /// From the same file.
    #[test]
    fn published_icmp_ids() {
        let (a, b) = ("fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea");
        let c = "3ffe:507:0:1:200:86ff:fe05:80da";
        for (src, dst, protocol, icmp, expected) in [
            ("192.168.0.89", "192.168.0.1", 1, (8, 0), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
            ("192.168.0.1", "192.168.0.89", 1, (0, 0), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
            ("10.0.0.1", "10.0.0.2", 1, (11, 0), "1:YHxtAirCG//0OzkcVAukqKQN9xM="),
            (a, b, 58, (135, 0), "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="),
            (b, a, 58, (136, 0), "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="),
            (b, a, 58, (135, 0), "1:zavyT/cezQr1fmImYCwYnMXbgck="),
            (a, b, 58, (136, 0), "1:zavyT/cezQr1fmImYCwYnMXbgck="),
            ("3ffe:501:1800:2345::2", c, 58, (3, 0), "1:2ObVBgIn28oZvibYZhZMBgh7WdQ="),
            ("3ffe:501:410:0:2c0:dfff:fe47:33e", c, 58, (1, 4), "1:hLZd0XGWojozrvxqE0dWB1iM6R0="),
            (c, "3ffe:501:0:1001::2", 58, (128, 0), "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg="),
            ("3ffe:501:0:1001::2", c, 58, (129, 0), "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg="),
            (a, "ff02::2", 58, (133, 0), "1:hO+sN4H+MG5MY/8hIrXPqc4ZQz0="),
            (b, "ff02::1", 58, (134, 0), "1:pkvHqCL88/tg1k4cPigmZXUtL00="),
        ] {
            assert_eq!(id(src, dst, protocol, (0, 0), icmp), expected, "{src} {dst}");
        }
    }
}
