//! The embedded store over plain HTTP: encodings, parameters, sessions, bad
//! requests, cut bodies. Needs libchdb (`cargo xtask setup`); no privileges.

use std::io::{Read as _, Write as _};

use flow_tests::raw_http::{Answer, connect, post, read_answer, send};
use flow_tests::store::{Store, tsv};

#[test]
fn get_post_parameters_and_headers() {
    let store = Store::start();
    let get = |target: &str| send(store.url(), "GET", target, &[], b"");
    assert_eq!(get("/ping").text(), "Ok.\n");
    assert_eq!(get("/").text(), "Ok.\n");
    let answer =
        get("/?query=SELECT+%7Ba:UInt8%7D,%7Bb:String%7D&param_a=7&param_b=x%3By&query_id=my-id");
    assert_eq!(answer.text(), "7\tx;y\n");
    assert_eq!(answer.header("x-clickhouse-query-id"), Some("my-id"));
    assert_eq!(answer.header("x-clickhouse-format"), Some("TabSeparated"));
    assert!(answer.header("x-clickhouse-timezone").is_some());
    assert!(answer.header("x-clickhouse-server-display-name").is_some());
    let summary: serde_json::Value =
        serde_json::from_str(answer.header("x-clickhouse-summary").unwrap()).unwrap();
    assert_eq!(summary["result_rows"], "1");
    // The statement may begin in the URL and go on in the body.
    assert_eq!(post(store.url(), "/?query=SELECT", b"41 + 1").text(), "42\n");
    let answer = send(
        store.url(),
        "POST",
        "/",
        &[("X-ClickHouse-Format", "JSONEachRow"), ("X-ClickHouse-Database", "system")],
        b"SELECT count() > 0 AS some FROM one",
    );
    assert_eq!(answer.text(), "{\"some\":1}\n");
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson; charset=UTF-8"));
    assert_eq!(
        post(store.url(), "/?max_threads=3", b"SELECT getSetting('max_threads')").text(),
        "3\n"
    );
    assert_ne!(post(store.url(), "/", b"SELECT getSetting('max_threads')").text(), "3\n");
    // One document, however many blocks it has.
    let json = post(store.url(), "/", b"SELECT number FROM numbers(300000) FORMAT JSONCompact");
    let json: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!(json["rows"], 300_000);
    let waited = post(store.url(), "/?wait_end_of_query=1", b"SELECT number FROM numbers(1000000)");
    assert_eq!(waited.text().lines().count(), 1_000_000);
    let waited = post(
        store.url(),
        "/?wait_end_of_query=1",
        b"SELECT throwIf(number = 3000000) FROM numbers(4000000)",
    );
    assert_eq!(waited.status, 500);
    store.stop();
}

#[test]
fn bad_requests_get_clickhouses_code_status_and_words() {
    let store = Store::start();
    let cases: [(&str, &str, u16, &str, &str); 13] = [
        ("POST", "SELEC 1", 400, "62", "Syntax error"),
        ("POST", "", 400, "62", "Empty query"),
        ("POST", "SELECT 1; SELECT 2", 400, "62", "Multi-statements"),
        ("POST", "SELECT * FROM missing", 404, "60", "UNKNOWN_TABLE"),
        ("POST", "SELECT nothing", 404, "47", "UNKNOWN_IDENTIFIER"),
        ("POST", "SELECT 1 FORMAT Nope", 404, "73", "UNKNOWN_FORMAT"),
        ("POST", "SELECT {x:UInt8}", 500, "456", "x"),
        ("POST", "SELECT 1 INTO OUTFILE '/tmp/flow-agent-no'", 500, "358", "INTO OUTFILE"),
        ("POST", "INSERT INTO t FROM INFILE '/etc/passwd' FORMAT CSV", 404, "78", "INFILE"),
        ("POST", "INSERT INTO missing FORMAT CSV\n1\n", 404, "60", "UNKNOWN_TABLE"),
        ("GET", "CREATE TABLE t (a Int8) ENGINE = Memory", 500, "164", "readonly"),
        ("PUT", "SELECT toUInt8('x')", 400, "6", "Cannot parse"),
        ("POST", "SELECT throwIf(1)", 500, "395", "throwIf"),
    ];
    for (method, sql, status, code, words) in cases {
        let answer = if method == "GET" {
            let target = format!("/?query={}", sql.replace(' ', "+"));
            send(store.url(), method, &target, &[], b"")
        } else {
            send(store.url(), method, "/", &[], sql.as_bytes())
        };
        let got = (answer.status, answer.header("x-clickhouse-exception-code"));
        assert_eq!(got, (status, Some(code)), "{sql}: {}", answer.text());
        let text = answer.text();
        assert!(text.starts_with(&format!("Code: {code}. DB::Exception: ")), "{text}");
        assert!(text.contains(words) && text.ends_with("(official build))\n"), "{text}");
    }
    store.stop();
}

#[test]
fn bad_urls_headers_and_sizes_are_refused_and_the_store_lives_on() {
    let store = Store::start();
    for (target, headers, status) in [
        ("/?user=bob", vec![], 403),
        ("/?nosuch=1", vec![], 404),
        ("/?a%3D1,b=1", vec![], 404),
        ("/?database=missing", vec![], 404),
        ("/?default_format=Native&client_protocol_version=54405", vec![], 501),
        ("/", vec![("Content-Encoding", "br")], 501),
        ("/", vec![("Content-Encoding", "gzip")], 500),
        ("/?decompress=1", vec![], 500),
        ("/nowhere", vec![], 404),
    ] {
        let answer = send(
            store.url(),
            "POST",
            target,
            &headers,
            b"SELECT 1 -- a body that is not compressed",
        );
        assert_eq!(answer.status, status, "{target}: {}", answer.text());
    }
    let long = format!("SELECT '{}'", "x".repeat(300 << 10));
    let answer = post(store.url(), "/", long.as_bytes());
    assert_eq!((answer.status, answer.header("x-clickhouse-exception-code")), (400, Some("62")));
    let mut stream = connect(store.url());
    stream.write_all(b"NONSENSE\r\n\r\n").unwrap();
    assert_eq!(read_answer(stream).unwrap().status, 400);
    let head = format!("/?query={}", "x".repeat(1 << 20));
    let mut stream = connect(store.url());
    let _ = stream.write_all(format!("GET {head} HTTP/1.1\r\n\r\n").as_bytes());
    assert!(read_answer(stream).map_or(true, |answer| answer.status >= 400));
    assert_eq!(store.sql("SELECT 'still here'"), "still here");
    store.stop();
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn lz4(data: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn decode(answer: &Answer) -> Vec<u8> {
    let mut plain = Vec::new();
    match answer.header("content-encoding") {
        None => plain.extend_from_slice(&answer.body),
        Some("gzip") => {
            flate2::read::GzDecoder::new(&answer.body[..])
                .read_to_end(&mut plain)
                .map(drop)
                .unwrap();
        }
        Some("deflate") => {
            flate2::read::ZlibDecoder::new(&answer.body[..])
                .read_to_end(&mut plain)
                .map(drop)
                .unwrap();
        }
        Some("lz4") => {
            lz4_flex::frame::FrameDecoder::new(&answer.body[..])
                .read_to_end(&mut plain)
                .map(drop)
                .unwrap();
        }
        Some("zstd") => plain = zstd::decode_all(&answer.body[..]).unwrap(),
        Some(other) => panic!("unknown encoding {other}"),
    }
    plain
}

#[test]
fn every_encoding_in_and_out() {
    let store = Store::start();
    store.create("flows", 0);
    let tsv = tsv(0..100_000);
    let target = "/?query=INSERT+INTO+flows+FORMAT+TSV";
    let bodies = [
        ("identity", tsv.clone().into_bytes()),
        ("gzip", gzip(tsv.as_bytes())),
        ("lz4", lz4(tsv.as_bytes())),
        ("zstd", zstd::encode_all(tsv.as_bytes(), 1).unwrap()),
    ];
    for (name, body) in &bodies {
        let answer = send(store.url(), "POST", target, &[("Content-Encoding", name)], body);
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    }
    assert_eq!(store.count("flows"), 400_000);
    let sql = b"SELECT DISTINCT id, host FROM flows ORDER BY id";
    for name in ["gzip", "deflate", "lz4", "zstd"] {
        let answer = send(store.url(), "POST", "/", &[("Accept-Encoding", name)], sql);
        assert_eq!(answer.header("content-encoding"), Some(name));
        assert!(answer.whole && decode(&answer) == tsv.as_bytes(), "{name}");
    }
    // Native framing out is native framing in.
    let framed = post(store.url(), "/?compress=1", sql);
    assert_eq!(framed.header("content-encoding"), None);
    let answer = post(store.url(), &format!("{target}&decompress=1"), &framed.body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(store.count("flows"), 500_000);
    let mut damaged = framed.body;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let answer = post(store.url(), &format!("{target}&decompress=1"), &damaged);
    assert!(answer.status >= 400, "a damaged frame was taken");
    assert_eq!(store.count("flows"), 500_000);
    store.stop();
}

#[test]
fn a_cut_body_is_never_committed() {
    let store = Store::start();
    store.create("flows", 0);
    let tsv = tsv(0..1_000);
    let target = "/?query=INSERT+INTO+flows+FORMAT+TSV&query_id=cut";
    let finished = || {
        // The statement is over when its id may be used again.
        while post(store.url(), "/?query_id=cut", b"SELECT 1").status != 200 {
            std::thread::yield_now();
        }
    };
    for kind in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let mut stream = connect(store.url());
        write!(stream, "POST {target} HTTP/1.1\r\nHost: x\r\n{kind}\r\n\r\n").unwrap();
        if kind.starts_with("Transfer") {
            write!(stream, "{:x}\r\n{tsv}\r\n", tsv.len()).unwrap();
        } else {
            stream.write_all(tsv.as_bytes()).unwrap();
        }
        while !store
            .sql("SELECT count() FROM system.processes WHERE query ILIKE 'INSERT%'")
            .starts_with('1')
        {
            std::thread::yield_now();
        }
        drop(stream);
        finished();
        assert_eq!(store.count("flows"), 0, "{kind}");
    }
    // Whole over HTTP, cut inside its compression.
    for (name, body) in [
        ("gzip", gzip(tsv.as_bytes())),
        ("lz4", lz4(tsv.as_bytes())),
        ("zstd", zstd::encode_all(tsv.as_bytes(), 1).unwrap()),
    ] {
        let answer = send(
            store.url(),
            "POST",
            target,
            &[("Content-Encoding", name)],
            &body[..body.len() - 3],
        );
        assert!(answer.status >= 400, "{name}");
        assert_eq!(store.count("flows"), 0, "{name}");
    }
    store.stop();
}

#[test]
fn an_abandoned_select_is_killed_and_kill_query_takes_the_clients_id() {
    let store = Store::start();
    let running = |store: &Store, n: &str| {
        let sql = "SELECT count() FROM system.processes WHERE query LIKE '%numbers(100000000000)%' AND query NOT LIKE '%processes%'";
        while store.sql(sql) != n {
            std::thread::yield_now();
        }
    };
    let mut stream = connect(store.url());
    let sql = "SELECT number FROM numbers(100000000000)";
    write!(stream, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{sql}", sql.len())
        .unwrap();
    stream.read_exact(&mut vec![0; 100_000]).unwrap();
    running(&store, "1");
    drop(stream);
    running(&store, "0");

    let url = store.url().to_owned();
    let victim = std::thread::spawn(move || {
        post(
            &url,
            "/?query_id=victim",
            b"SELECT count() FROM numbers(100000000000) WHERE NOT ignore(rand())",
        )
    });
    running(&store, "1");
    let twin = post(store.url(), "/?query_id=victim", b"SELECT 1");
    assert_eq!(twin.header("x-clickhouse-exception-code"), Some("216"));
    store.sql("KILL QUERY WHERE query_id = 'victim' SYNC");
    assert_eq!(victim.join().unwrap().header("x-clickhouse-exception-code"), Some("394"));
    store.stop();
}

#[test]
fn a_session_keeps_its_settings_and_temporary_tables() {
    let store = Store::start();
    let ask = |target: &str, sql: &str| post(store.url(), target, sql.as_bytes());
    assert_eq!(
        ask("/?session_id=a&session_check=1", "SELECT 1").header("x-clickhouse-exception-code"),
        Some("372")
    );
    assert_eq!(ask("/?session_id=a", "CREATE TEMPORARY TABLE t (a Int8)").status, 200);
    assert_eq!(ask("/?session_id=a", "SET max_threads = 3").status, 200);
    assert_eq!(ask("/?session_id=a", "SELECT broken").status, 404);
    assert_eq!(
        ask("/?session_id=a&max_block_size=7", "SELECT count(), getSetting('max_threads') FROM t")
            .text(),
        "0\t3\n"
    );
    assert_ne!(ask("/?session_id=a", "SELECT getSetting('max_block_size')").text(), "7\n");
    assert_eq!(ask("/?session_id=b", "SELECT * FROM t").status, 404);
    store.stop();
}
