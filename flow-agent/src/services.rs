//! A protocol and a port enter, the name of the service that listens there leaves.
//!
//! Names are those of IANA's service name registry in lower case, or the usual one where a
//! protocol has no registered port. A port is listed with the protocols it is really used with.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::record::FlowRecord;

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// Port numbers there are.
pub(crate) const PORTS: usize = 1 << 16;

/// The name of the service on `port` of `protocol` (an IP protocol number), if it is well known.
pub fn service(protocol: u8, port: u16) -> Option<&'static str> {
    let index = SERVICES
        .binary_search_by_key(&(port, protocol), |(port, protocol, _)| (*port, *protocol))
        .ok()?;
    Some(SERVICES[index].2)
}

/// A protocol and a port that have a built-in name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServicePort {
    protocol: u8,
    port: u16,
}

impl ServicePort {
    /// The name.
    pub fn name(self) -> Option<&'static str> {
        service(self.protocol, self.port)
    }
}

/// True if the port has a built-in name; cheaper than to find the name.
#[inline]
pub fn is_well_known(protocol: u8, port: u16) -> bool {
    place(protocol, port).is_some_and(|(word, bit)| BUILT_IN[word] & bit != 0)
}

/// The first of these ports that has a built-in name.
#[inline]
pub fn well_known_port(protocol: u8, ports: [u16; 2]) -> Option<u16> {
    ports.into_iter().find(|port| is_well_known(protocol, *port))
}

/// The same with its protocol.
#[inline]
pub fn service_port(protocol: u8, ports: [u16; 2]) -> Option<ServicePort> {
    let port = well_known_port(protocol, ports)?;
    Some(ServicePort { protocol, port })
}

/// The service a flow uses: by the port of the side that was asked, else of the other.
pub fn service_of(record: &FlowRecord) -> &'static str {
    let port = service_port(record.protocol, [record.dst_port, record.src_port]);
    port.and_then(ServicePort::name).unwrap_or_default()
}

/// The part of a table by protocol and port that a protocol has; none for those without services.
pub(crate) const fn row(protocol: u8) -> Option<usize> {
    match protocol {
        TCP => Some(0),
        UDP => Some(1),
        SCTP => Some(2),
        _ => None,
    }
}

/// Ports with a built-in name: a bit for each port, protocol after protocol.
static BUILT_IN: [u64; 3 * PORTS / 64] = {
    let (mut words, mut number) = ([0; 3 * PORTS / 64], 0);
    while number < SERVICES.len() {
        if let Some((word, bit)) = place(SERVICES[number].1, SERVICES[number].0) {
            words[word] |= bit;
        }
        number += 1;
    }
    words
};

/// The word and the bit of a port.
#[inline]
const fn place(protocol: u8, port: u16) -> Option<(usize, u64)> {
    let Some(row) = row(protocol) else { return None };
    let bit = row * PORTS + port as usize;
    Some((bit / 64, 1 << (bit % 64)))
}

/// The ports that count as those of services when it is asked who began a flow: the well-known
/// ones and, live, what was added. Clones share them; a look-up is one read of memory.
#[derive(Clone)]
pub struct KnownPorts {
    /// A bit for each port, protocol after protocol.
    words: Arc<[AtomicU64]>,
}

impl Default for KnownPorts {
    fn default() -> Self {
        Self { words: BUILT_IN.iter().copied().map(AtomicU64::new).collect() }
    }
}

impl fmt::Debug for KnownPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports: u32 = self.words.iter().map(|w| w.load(Ordering::Relaxed).count_ones()).sum();
        write!(f, "KnownPorts({ports})")
    }
}

impl KnownPorts {
    /// True if `port` of `protocol` is that of a service.
    #[inline]
    pub fn contains(&self, protocol: u8, port: u16) -> bool {
        place(protocol, port)
            .is_some_and(|(word, bit)| self.words[word].load(Ordering::Relaxed) & bit != 0)
    }

    /// From now on these are, and the well-known ones; what else was added is not any more.
    pub fn set(&self, added: impl Iterator<Item = (u8, u16)>) {
        let mut words = BUILT_IN.to_vec();
        for (protocol, port) in added {
            if let Some((word, bit)) = place(protocol, port) {
                words[word] |= bit;
            }
        }
        for (shared, word) in self.words.iter().zip(words) {
            shared.store(word, Ordering::Relaxed);
        }
    }
}

/// Sorted by port, then by protocol.
#[rustfmt::skip]
pub(crate) const SERVICES: &[(u16, u8, &str)] = &[
    (7, TCP, "echo"),
    (7, UDP, "echo"),
    (9, TCP, "discard"),
    (9, UDP, "discard"),
    (13, TCP, "daytime"),
    (13, UDP, "daytime"),
    (17, TCP, "qotd"),
    (17, UDP, "qotd"),
    (19, TCP, "chargen"),
    (19, UDP, "chargen"),
    (20, TCP, "ftp-data"),
    (21, TCP, "ftp"),
    (22, TCP, "ssh"),
    (22, SCTP, "ssh"),
    (23, TCP, "telnet"),
    (25, TCP, "smtp"),
    (37, TCP, "time"),
    (37, UDP, "time"),
    (43, TCP, "nicname"),
    (49, TCP, "tacacs"),
    (49, UDP, "tacacs"),
    (53, TCP, "domain"),
    (53, UDP, "domain"),
    (67, UDP, "bootps"),
    (68, UDP, "bootpc"),
    (69, UDP, "tftp"),
    (70, TCP, "gopher"),
    (79, TCP, "finger"),
    (80, TCP, "http"),
    (80, UDP, "http"),
    (80, SCTP, "http"),
    (88, TCP, "kerberos"),
    (88, UDP, "kerberos"),
    (102, TCP, "iso-tsap"),
    (104, TCP, "acr-nema"),
    (110, TCP, "pop3"),
    (111, TCP, "sunrpc"),
    (111, UDP, "sunrpc"),
    (113, TCP, "ident"),
    (119, TCP, "nntp"),
    (123, UDP, "ntp"),
    (135, TCP, "epmap"),
    (135, UDP, "epmap"),
    (137, TCP, "netbios-ns"),
    (137, UDP, "netbios-ns"),
    (138, UDP, "netbios-dgm"),
    (139, TCP, "netbios-ssn"),
    (143, TCP, "imap"),
    (161, TCP, "snmp"),
    (161, UDP, "snmp"),
    (162, TCP, "snmptrap"),
    (162, UDP, "snmptrap"),
    (179, TCP, "bgp"),
    (179, SCTP, "bgp"),
    (194, TCP, "irc"),
    (319, UDP, "ptp-event"),
    (320, UDP, "ptp-general"),
    (389, TCP, "ldap"),
    (389, UDP, "ldap"),
    (427, TCP, "svrloc"),
    (427, UDP, "svrloc"),
    (443, TCP, "https"),
    (443, UDP, "https"),
    (443, SCTP, "https"),
    (444, TCP, "snpp"),
    (445, TCP, "microsoft-ds"),
    (445, UDP, "microsoft-ds"),
    (464, TCP, "kpasswd"),
    (464, UDP, "kpasswd"),
    (465, TCP, "submissions"),
    (500, UDP, "isakmp"),
    (502, TCP, "modbus"),
    (502, UDP, "modbus"),
    (513, TCP, "login"),
    (514, UDP, "syslog"),
    (515, TCP, "printer"),
    (520, UDP, "router"),
    (521, UDP, "ripng"),
    (546, UDP, "dhcpv6-client"),
    (547, UDP, "dhcpv6-server"),
    (548, TCP, "afpovertcp"),
    (554, TCP, "rtsp"),
    (554, UDP, "rtsp"),
    (563, TCP, "nntps"),
    (587, TCP, "submission"),
    (593, TCP, "http-rpc-epmap"),
    (623, TCP, "asf-rmcp"),
    (623, UDP, "asf-rmcp"),
    (631, TCP, "ipp"),
    (631, UDP, "ipp"),
    (636, TCP, "ldaps"),
    (646, TCP, "ldp"),
    (646, UDP, "ldp"),
    (789, TCP, "red-lion"),
    (802, TCP, "modbus-s"),
    (853, TCP, "domain-s"),
    (853, UDP, "domain-s"),
    (873, TCP, "rsync"),
    (902, TCP, "ideafarm-door"),
    (989, TCP, "ftps-data"),
    (990, TCP, "ftps"),
    (992, TCP, "telnets"),
    (993, TCP, "imaps"),
    (995, TCP, "pop3s"),
    (1080, TCP, "socks"),
    (1089, TCP, "ff-annunc"),
    (1089, UDP, "ff-annunc"),
    (1090, TCP, "ff-fms"),
    (1090, UDP, "ff-fms"),
    (1091, TCP, "ff-sm"),
    (1091, UDP, "ff-sm"),
    (1099, TCP, "rmiregistry"),
    (1194, TCP, "openvpn"),
    (1194, UDP, "openvpn"),
    (1217, TCP, "codesys"),
    (1352, TCP, "lotusnote"),
    (1433, TCP, "ms-sql-s"),
    (1434, UDP, "ms-sql-m"),
    (1494, TCP, "ica"),
    (1521, TCP, "oracle"),
    (1645, UDP, "radius-legacy"),
    (1701, UDP, "l2tp"),
    (1719, UDP, "h323gatestat"),
    (1720, TCP, "h323hostcall"),
    (1723, TCP, "pptp"),
    (1812, UDP, "radius"),
    (1813, UDP, "radius-acct"),
    (1883, TCP, "mqtt"),
    (1900, UDP, "ssdp"),
    (1911, TCP, "niagara-fox"),
    (1935, TCP, "rtmp"),
    (1962, TCP, "pcworx"),
    (1985, UDP, "hsrp"),
    (2049, TCP, "nfs"),
    (2049, UDP, "nfs"),
    (2055, UDP, "netflow"),
    (2123, UDP, "gtp-control"),
    (2152, UDP, "gtp-user"),
    (2181, TCP, "zookeeper"),
    (2221, TCP, "ethernet-ip-s"),
    (2221, UDP, "ethernet-ip-s"),
    (2222, TCP, "ethernet-ip"),
    (2222, UDP, "ethernet-ip"),
    (2375, TCP, "docker"),
    (2376, TCP, "docker-s"),
    (2379, TCP, "etcd-client"),
    (2380, TCP, "etcd-server"),
    (2404, TCP, "iec-104"),
    (2427, UDP, "mgcp-gateway"),
    (2455, TCP, "codesys"),
    (2484, TCP, "oracle-tcps"),
    (2575, TCP, "hl7"),
    (2638, TCP, "sybaseanywhere"),
    (2775, TCP, "smpp"),
    (2905, SCTP, "m3ua"),
    (3128, TCP, "squid-http"),
    (3205, TCP, "isns"),
    (3260, TCP, "iscsi-target"),
    (3268, TCP, "msft-gc"),
    (3269, TCP, "msft-gc-ssl"),
    (3283, UDP, "net-assistant"),
    (3306, TCP, "mysql"),
    (3389, TCP, "ms-wbt-server"),
    (3389, UDP, "ms-wbt-server"),
    (3478, TCP, "stun"),
    (3478, UDP, "stun"),
    (3544, UDP, "teredo"),
    (3671, TCP, "efcp"),
    (3671, UDP, "efcp"),
    (3690, TCP, "svn"),
    (3702, UDP, "ws-discovery"),
    (3782, TCP, "iso-tp0s"),
    (3868, TCP, "diameter"),
    (3868, SCTP, "diameter"),
    (4059, TCP, "dlms-cosem"),
    (4059, UDP, "dlms-cosem"),
    (4369, TCP, "epmd"),
    (4500, UDP, "ipsec-nat-t"),
    (4739, TCP, "ipfix"),
    (4739, UDP, "ipfix"),
    (4739, SCTP, "ipfix"),
    (4789, UDP, "vxlan"),
    (4840, TCP, "opcua"),
    (4840, UDP, "opcua"),
    (4911, TCP, "niagara-foxs"),
    (5004, UDP, "avt-profile-1"),
    (5005, UDP, "avt-profile-2"),
    (5006, UDP, "melsec"),
    (5007, TCP, "melsec"),
    (5007, UDP, "melsec"),
    (5060, TCP, "sip"),
    (5060, UDP, "sip"),
    (5060, SCTP, "sip"),
    (5061, TCP, "sips"),
    (5061, SCTP, "sips"),
    (5094, TCP, "hart-ip"),
    (5094, UDP, "hart-ip"),
    (5222, TCP, "xmpp-client"),
    (5246, UDP, "capwap-control"),
    (5247, UDP, "capwap-data"),
    (5269, TCP, "xmpp-server"),
    (5349, TCP, "stuns"),
    (5349, UDP, "stuns"),
    (5351, UDP, "nat-pmp"),
    (5353, UDP, "mdns"),
    (5355, UDP, "llmnr"),
    (5432, TCP, "postgresql"),
    (5555, TCP, "personal-agent"),
    (5601, TCP, "kibana"),
    (5671, TCP, "amqps"),
    (5672, TCP, "amqp"),
    (5683, TCP, "coap"),
    (5683, UDP, "coap"),
    (5684, TCP, "coaps"),
    (5684, UDP, "coaps"),
    (5900, TCP, "rfb"),
    (5938, TCP, "teamviewer"),
    (5938, UDP, "teamviewer"),
    (5984, TCP, "couchdb"),
    (5985, TCP, "wsman"),
    (5986, TCP, "wsmans"),
    (6000, TCP, "x11"),
    (6081, UDP, "geneve"),
    (6343, UDP, "sflow"),
    (6379, TCP, "redis"),
    (6443, TCP, "kubernetes-api"),
    (6514, TCP, "syslog-tls"),
    (6514, UDP, "syslog-tls"),
    (6653, TCP, "openflow"),
    (6667, TCP, "irc"),
    (6881, TCP, "bittorrent"),
    (6881, UDP, "bittorrent"),
    (7000, TCP, "cassandra"),
    (7400, UDP, "rtps-discovery"),
    (7401, UDP, "rtps-user"),
    (8008, TCP, "http-alt"),
    (8009, TCP, "ajp"),
    (8080, TCP, "http-alt"),
    (8086, TCP, "influxdb"),
    (8123, TCP, "clickhouse-http"),
    (8291, TCP, "winbox"),
    (8333, TCP, "bitcoin"),
    (8443, TCP, "https-alt"),
    (8472, UDP, "otv"),
    (8805, UDP, "pfcp"),
    (8883, TCP, "secure-mqtt"),
    (9000, TCP, "clickhouse"),
    (9042, TCP, "cassandra-cql"),
    (9090, TCP, "prometheus"),
    (9092, TCP, "kafka"),
    (9100, TCP, "pdl-datastream"),
    (9200, TCP, "elasticsearch"),
    (9300, TCP, "elasticsearch-transport"),
    (9418, TCP, "git"),
    (9440, TCP, "clickhouse-s"),
    (9600, TCP, "fins"),
    (9600, UDP, "fins"),
    (9899, UDP, "sctp-tunneling"),
    (10000, TCP, "ndmp"),
    (10050, TCP, "zabbix-agent"),
    (10051, TCP, "zabbix-trapper"),
    (10250, TCP, "kubelet"),
    (11211, TCP, "memcache"),
    (11211, UDP, "memcache"),
    (11434, TCP, "ollama"),
    (11740, TCP, "codesys-3"),
    (15672, TCP, "rabbitmq-management"),
    (18245, TCP, "ge-srtp"),
    (18246, TCP, "ge-srtp"),
    (19998, TCP, "iec-104-sec"),
    (19999, TCP, "dnp3-sec"),
    (19999, UDP, "dnp3-sec"),
    (20000, TCP, "dnp3"),
    (20000, UDP, "dnp3"),
    (20547, TCP, "proconos"),
    (25565, TCP, "minecraft"),
    (27017, TCP, "mongodb"),
    (27960, UDP, "quake3"),
    (30490, TCP, "someip-sd"),
    (30490, UDP, "someip-sd"),
    (33434, UDP, "traceroute"),
    (34962, TCP, "profinet-rt"),
    (34962, UDP, "profinet-rt"),
    (34963, TCP, "profinet-rtm"),
    (34963, UDP, "profinet-rtm"),
    (34964, TCP, "profinet"),
    (34964, UDP, "profinet"),
    (34980, TCP, "ethercat"),
    (34980, UDP, "ethercat"),
    (36412, SCTP, "s1-control"),
    (38412, SCTP, "ng-control"),
    (41100, TCP, "codesys-gateway"),
    (44818, TCP, "ethernet-ip"),
    (44818, UDP, "ethernet-ip"),
    (47808, UDP, "bacnet"),
    (48898, TCP, "ads"),
    (48899, UDP, "ads-discovery"),
    (50000, TCP, "ibm-db2"),
    (51820, UDP, "wireguard"),
    (55000, UDP, "fl-net"),
    (55001, UDP, "fl-net"),
    (55002, UDP, "fl-net"),
    (55003, UDP, "fl-net"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_unique() {
        assert!(SERVICES.is_sorted_by(|a, b| (a.0, a.1) < (b.0, b.1)));
    }

    #[test]
    fn names_are_in_lower_case() {
        for (_, _, name) in SERVICES {
            assert!(name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-')), "{name}");
        }
    }

    #[test]
    fn known_ports_are_the_well_known_ones_and_what_was_added() {
        let known = KnownPorts::default();
        let added = [(TCP, 9999), (UDP, 65_535), (SCTP, 0), (1, 8)];
        let shared = known.clone();
        for more in [&added[..], &[]] {
            known.set(more.iter().copied());
            for protocol in [1, TCP, UDP, SCTP] {
                for port in 0..=u16::MAX {
                    let expected = service(protocol, port).is_some()
                        || protocol != 1 && more.contains(&(protocol, port));
                    assert_eq!(shared.contains(protocol, port), expected, "{protocol}/{port}");
                }
            }
        }
    }

    #[test]
    fn industrial_protocols() {
        for (protocols, port, name) in [
            (&[TCP][..], 102, "iso-tsap"),
            (&[TCP], 502, "modbus"),
            (&[TCP], 2404, "iec-104"),
            (&[TCP, UDP], 4840, "opcua"),
            (&[TCP, UDP], 20_000, "dnp3"),
            (&[TCP], 19_999, "dnp3-sec"),
            (&[TCP], 19_998, "iec-104-sec"),
            (&[TCP], 3782, "iso-tp0s"),
            (&[TCP, UDP], 34_962, "profinet-rt"),
            (&[TCP, UDP], 34_963, "profinet-rtm"),
            (&[TCP, UDP], 34_964, "profinet"),
            (&[TCP, UDP], 34_980, "ethercat"),
            (&[TCP, UDP], 44_818, "ethernet-ip"),
            (&[TCP], 2221, "ethernet-ip-s"),
            (&[UDP], 2222, "ethernet-ip"),
            (&[UDP], 47_808, "bacnet"),
            (&[TCP], 789, "red-lion"),
            (&[TCP], 1911, "niagara-fox"),
            (&[TCP], 4911, "niagara-foxs"),
            (&[TCP, UDP], 5007, "melsec"),
        ] {
            for protocol in protocols {
                assert_eq!(service(*protocol, port), Some(name), "{protocol}/{port}");
            }
        }
    }

    #[test]
    fn well_known_services() {
        assert_eq!(service(TCP, 443), Some("https"));
        assert_eq!(service(UDP, 53), Some("domain"));
        assert_eq!(service(TCP, 102), Some("iso-tsap"));
        assert_eq!(service(TCP, 502), Some("modbus"));
        assert_eq!(service(UDP, 47808), Some("bacnet"));
        assert_eq!(service(SCTP, 38412), Some("ng-control"));
        assert_eq!(service(UDP, 22), None);
        assert_eq!(service(1, 0), None);
        assert_eq!(service(TCP, 65535), None);
    }
}
