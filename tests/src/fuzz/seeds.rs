//! Whole, valid input for each target; the same each time.

use std::io::Write as _;

use flow_agent::cache::Initiator;
use flow_agent::enrich::{BatchLabels, Labels, Listener, Seen};
use flow_agent::frozen::FrozenBatch;
use flow_agent::names::Names;
use flow_agent::record::{FlowEndReason, FlowRecord, InitiatorBy};
use flow_agent::state::{State, encode};
use flow_common::{Direction, FlowKey, Tunnel};
use uuid::Uuid;

use crate::packets;
use crate::wild::{self, Dice};

/// Frames of every kind, and some bent ones.
pub fn parser() -> Vec<Vec<u8>> {
    let frames = packets::batch(1, 200);
    let frames = frames.into_iter().enumerate().map(|(at, mut frame)| {
        frame.truncate(200);
        [&[at as u8 & 1, 0][..], &frame].concat()
    });
    frames.collect()
}

/// Classic captures, pcapng, and one that is compressed.
pub fn capture() -> Vec<Vec<u8>> {
    let mut dice = Dice::new(1);
    let short = |dice: &mut Dice, link, count| {
        let mut frames = wild::frames(dice, link, count);
        for (_, _, data) in &mut frames {
            data.truncate(60);
        }
        frames
    };
    let classic = wild::pcap(1, &short(&mut dice, 1, 4));
    let several = [1, 101, 113].map(|link| (link, short(&mut dice, link, 2)));
    let blocks = wild::pcapng(&several);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&classic).expect("memory takes it");
    let compressed = encoder.finish().expect("memory takes it");
    let whole = |capture: Vec<u8>| [&[0xff, 0x7f][..], &capture].concat();
    [classic, blocks, compressed].map(whole).into()
}

/// Real files as they are, and a few changes to them.
pub fn spool() -> Vec<Vec<u8>> {
    let mut changes = vec![vec![1]];
    for what in 0..7 {
        changes.push(vec![1, what, what, 0x10, 0x02, 3, 0, 1, 0x44, 0, 0x80]);
    }
    changes.push(super::spool::made_up_seed());
    changes
}

/// What the packages ship, of each profile, with its comments taken out.
pub fn config() -> Vec<Vec<u8>> {
    let mut texts: Vec<Vec<u8>> = ["default", "small", "large", "debug"]
        .map(|profile| {
            let text = flow_agent::config::commented(profile);
            let lines = text.lines().map(|line| match line.strip_prefix('#') {
                // An assignment that stands there as the default.
                Some(rest) if !rest.starts_with(' ') && rest.contains('=') => rest,
                _ => line,
            });
            let lines = lines.filter(|line| !line.starts_with('#') && !line.is_empty());
            lines.collect::<Vec<_>>().join("\n").into_bytes()
        })
        .into();
    let parts: Vec<Vec<u8>> =
        texts[0].split(|octet| *octet == b'[').skip(1).map(|part| [b"[", part].concat()).collect();
    texts.extend(parts);
    texts.push(
        b"store = \"https://u:p@a:8443,http://b/db\"\n[services]\nmy-app = [\"tcp/80\"]\n".into(),
    );
    texts
}

/// Every page, and an order to the cache.
pub fn status() -> Vec<Vec<u8>> {
    let get = |target: &str| {
        let head = format!("GET {target} HTTP/1.1\r\nHost: localhost:9469\r\nAccept: */*\r\n\r\n");
        head.into_bytes()
    };
    let mut requests: Vec<_> = [
        "/",
        "/healthz",
        "/metrics",
        "/api/v1/status",
        "/api/v1/flows?key=tcp,10.0.0.1:1234,[2001:db8::1]:443&store=false",
        "/api/v1/flows?key=icmp,10.0.0.1,10.0.0.2",
        "/api/v1/flows/open?search=10.0.+eth0+https&limit=5",
        "/api/v1/history?hours=24",
        "/api/v1/overview?since=17",
        "/api/v1/latency?buckets=true",
        "/api/v1/cache?details=1",
        "/api/v1/%2e%2e/%2e%2e/etc/passwd",
        "//api/v1/status",
        "http://example.org/api/v1/status",
    ]
    .map(get)
    .into();
    for order in [
        r#"{"prefix":"10.0.0.0/8","mode":"hard"}"#,
        r#"{"key":"udp,10.0.0.1:53,10.0.0.2:5353"}"#,
        r#"{"interface":"eth0"}"#,
        r#"{"all":true}"#,
    ] {
        requests.push(post("/api/v1/cache/invalidate", "application/json", order));
    }
    requests.push(
        b"POST /api/v1/cache/invalidate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\
          \r\n\r\n4\r\n{\"al\r\n7\r\nl\":true\r\n1\r\n}\r\n0\r\n\r\n"
            .into(),
    );
    requests
}

fn post(target: &str, kind: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Queries, inserts, a form, a session.
pub fn store() -> Vec<Vec<u8>> {
    let form = "--b\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT {a:String}\r\n\
                --b\r\nContent-Disposition: form-data; name=\"param_a\"\r\n\r\nx\r\n--b--\r\n";
    let mut requests = vec![
        b"GET /?query=SELECT+1+FORMAT+JSON&database=flow&max_threads=2 HTTP/1.1\r\nHost: a\r\n\
          Authorization: Basic ZGVmYXVsdDo=\r\nAccept-Encoding: gzip\r\n\r\n"
            .to_vec(),
        b"GET /?query=DROP+TABLE+flow.flows&session_id=s&session_timeout=5 HTTP/1.1\r\n\r\n".into(),
        post("/", "multipart/form-data; boundary=b", form),
    ];
    for sql in [
        "INSERT INTO flow.flows (a, `b;`) FORMAT CSV\n1,\"x;y\"\n",
        "INSERT INTO t VALUES (1, 'a;b'), ($h$;$h$, /* ; */ 2) -- ;\n",
        "INSERT INTO t SELECT 1",
        "WITH 1 AS x SELECT x, ';', `;` FROM t FORMAT JSON SETTINGS a=1;",
        "KILL QUERY WHERE query_id = 'x' SYNC",
        "SELECT 1; DROP TABLE flow.flows",
    ] {
        requests.push(post("/?query_id=q&wait_end_of_query=1", "text/plain", sql));
    }
    requests
}

/// Answers of a server, and of what is none.
pub fn answers() -> Vec<Vec<u8>> {
    let own = "X-ClickHouse-Server-Display-Name: a\r\nX-ClickHouse-Query-Id: b\r\n";
    [
        format!("HTTP/1.1 200 OK\r\n{own}Content-Length: 3\r\n\r\n1\t2HTTP/1.1 200 OK\r\n{own}Content-Length: 0\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\n{own}Transfer-Encoding: chunked\r\n\r\n4\r\n1\t2\n\r\n0\r\n\r\n"),
        format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 Internal Server Error\r\n{own}X-ClickHouse-Exception-Code: 252\r\nContent-Length: 90\r\n\r\nCode: 252. DB::Exception: Too many parts (300). (TOO_MANY_PARTS) (version 26.7.3.1)\n"),
        format!("HTTP/1.1 200 OK\r\n{own}X-ClickHouse-Exception-Tag: abcdefghijklmnop\r\n\r\n1\n\r\n__exception__\r\nabcdefghijklmnop\r\nCode: 395. DB::Exception: x\n32 abcdefghijklmnop\r\n__exception__\r\n"),
        "Code: 469. DB::Exception: Constraint `a` is violated. (VIOLATED_CONSTRAINT)".into(),
        "bad response: 503 Service Unavailable".into(),
        "HTTP/1.1 200 OK\r\nServer: nginx\r\n\r\n<html>".into(),
        format!("HTTP/1.1 204 No Content\r\n{own}\r\n"),
    ]
    .into_iter()
    .map(|text| [b"\x07", text.as_bytes()].concat())
    .collect()
}

/// A state with the parts that the agent has.
pub fn state() -> Vec<Vec<u8>> {
    let key = FlowKey {
        src: [10, 0, 0, 1].into(),
        dst: [10, 0, 0, 2].into(),
        src_port: 40_000,
        dst_port: 443,
        protocol: 6,
        ..FlowKey::default()
    };
    let side = flow_agent::cache::Side::Low;
    let initiator = Initiator::of(&key, (side, InitiatorBy::Syn)).expect("it has ports");
    let listener = Listener { namespace: "blue/".into(), protocol: 6, port: 22 };
    let seen = Seen { unit: Some("sshd.service".into()), at_s: 1_700_000_000 };
    let parts = [
        ("initiators", encode(&vec![initiator; 2])),
        ("listeners", encode(&vec![(listener, seen)])),
        ("own", Some(vec![1, 2, 3])),
    ];
    let parts = parts
        .into_iter()
        .map(|(name, octets)| (name.to_owned(), (1, octets.expect("it has a form"))))
        .collect();
    let state = State { saved_at_ns: 1_700_000_000_000_000_000, parts };
    let file = flow_agent::fuzz::state::octets(&state);
    let bare = file[20..file.len() - 4].to_vec();
    vec![[&[0][..], &file].concat(), [&[1][..], &bare].concat()]
}

/// Blocks of one and of a few rows.
pub fn block() -> Vec<Vec<u8>> {
    [1, 3].map(|rows| batch(rows).block.to_vec()).into()
}

fn batch(rows: u16) -> FrozenBatch {
    let tunnel = Tunnel { kind: 1, id: 7, src: [10, 0, 0, 8].into(), dst: [10, 0, 0, 9].into() };
    let records: Vec<FlowRecord> = (0..rows)
        .map(|number| FlowRecord {
            start_ns: 1_700_000_000_000_000_000,
            end_ns: 1_700_000_001_000_000_000,
            interface: number % 2 + 1,
            direction: Direction::Ingress,
            src: [1; 16],
            dst: [2; 16],
            src_port: 1000 + number,
            dst_port: 443,
            protocol: if number == 1 { 17 } else { 6 },
            icmp_type: 0,
            icmp_code: 0,
            vlan_id: 7,
            inner_vlan_id: 0,
            packets: 3,
            octets: 180,
            reverse_packets: 2,
            reverse_octets: 120,
            tcp_flags: 0x12,
            reverse_tcp_flags: 0x10,
            dscp: 0,
            min_ttl: 63,
            max_ttl: 64,
            tunnel: (number == 2).then(|| Box::new(tunnel)),
            handshake_rtt_ns: 1_000,
            retransmits: 0,
            end_reason: FlowEndReason::IdleTimeout,
            initiator_by: InitiatorBy::Syn,
            sampling: 1,
        })
        .collect();
    let mut labels = BatchLabels::with_capacity(records.len(), true);
    let (unit, host) = (labels.text(&"nginx.service".into()), labels.text(&"a.example".into()));
    for _ in &records {
        labels.push(Labels { src_host: host, unit, ..Labels::default() });
    }
    labels.freeze();
    let names = Names::new("host", &["eth0", "blue/veth1"]);
    FrozenBatch::of_flows(&records, &labels, &names, Uuid::from_u128(7 << 76), 1_700_000_000)
}
