//! The store under many clients, greedy ones and rude ones. Needs libchdb
//! (`cargo xtask setup`); no privileges.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use flow_tests::raw_http::{Answer, connect, post, read_answer};
use flow_tests::store::{Store, tsv};

const INSERT: &str = "/?query=INSERT+INTO+flows+FORMAT+TSV";
/// Runs until it is killed and answers with nothing before its end.
const ENDLESS: &str = "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(rand())";

/// Sends a request and reads nothing.
fn send_only(store: &Store, target: &str, body: &str) -> TcpStream {
    let mut stream = connect(store.url());
    let length = body.len();
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    stream
}

fn code(answer: &Answer) -> Option<i32> {
    answer.header("x-clickhouse-exception-code")?.parse().ok()
}

/// Waits until so many statements with this in their text run.
fn wait_running(store: &Store, text: &str, number: usize) {
    let sql = format!(
        "SELECT count() FROM system.processes WHERE position(query, '{text}') > 0 \
         AND position(query, 'system.processes') = 0"
    );
    while store.sql(&sql) != number.to_string() {
        thread::yield_now();
    }
}

#[test]
fn sixty_four_clients_at_once_insert_ask_and_break_off_and_every_row_is_right() {
    const CLIENTS: usize = 64;
    const ROUNDS: u64 = 6;
    const ROWS: u64 = 500;
    let store = Store::start();
    store.create("flows", 0);
    let together = Barrier::new(CLIENTS);
    thread::scope(|scope| {
        for client in 0..CLIENTS as u64 {
            let (store, together) = (&store, &together);
            scope.spawn(move || {
                together.wait();
                for round in 0..ROUNDS {
                    let first = (client * ROUNDS + round) * ROWS;
                    let rows = tsv(first..first + ROWS);
                    if client % 4 == 3 {
                        // Goes away in the middle: nothing of it is stored.
                        let mut stream = connect(store.url());
                        write!(
                            stream,
                            "POST {INSERT} HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n{rows}"
                        )
                        .unwrap();
                        continue;
                    }
                    let answer = post(store.url(), INSERT, rows.as_bytes());
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    let sql = format!(
                        "SELECT count(), sum(id) FROM flows WHERE id >= {first} AND id < {first} + {ROWS}"
                    );
                    let sum: u64 = (first..first + ROWS).sum();
                    assert_eq!(
                        post(store.url(), "/", sql.as_bytes()).text(),
                        format!("{ROWS}\t{sum}\n")
                    );
                }
            });
        }
    });
    wait_running(&store, "INSERT INTO flows", 0);
    let kept = (0..CLIENTS as u64).filter(|client| client % 4 != 3);
    let ids = kept.flat_map(|client| client * ROUNDS * ROWS..(client + 1) * ROUNDS * ROWS);
    let (mut count, mut sum) = (0, 0);
    for id in ids {
        count += 1;
        sum += id;
    }
    assert_eq!(
        store.sql("SELECT count(), uniqExact(id), sum(id) FROM flows"),
        format!("{count}\t{count}\t{sum}")
    );
    store.stop();
}

#[test]
fn beyond_its_queue_it_refuses_and_inserts_and_kills_go_on() {
    // Places and queue of queries are 24 and 128.
    const ALL: usize = 24 + 128;
    let store = Store::start();
    store.create("flows", 0);
    let refused = AtomicUsize::new(0);
    let killed = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // The engine shares two cores among them: each is to take long, not to work.
        let sleeping = "SELECT sleepEachRow(1) FROM numbers(1000000) SETTINGS max_block_size = 1, \
                        function_sleep_max_microseconds_per_block = 10000000 FORMAT Null";
        for _ in 0..ALL + 20 {
            scope.spawn(|| {
                let answer = post(store.url(), "/", sleeping.as_bytes());
                match code(&answer) {
                    Some(202) => {
                        assert_eq!(answer.status, 503);
                        assert!(answer.text().contains("24 run and 128 wait"), "{}", answer.text());
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                    Some(394) => drop(killed.fetch_add(1, Ordering::Relaxed)),
                    other => panic!("{other:?}: {}", answer.text()),
                }
            });
        }
        while refused.load(Ordering::Relaxed) < 20 {
            thread::yield_now();
        }
        // Full for queries; not for inserts, and not for who makes room.
        assert_eq!(code(&post(store.url(), "/", b"SELECT 1")), Some(202));
        let answer = post(store.url(), INSERT, tsv(0..10).as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        let in_body = format!("INSERT INTO flows FORMAT TSV\n{}", tsv(10..20));
        assert_eq!(post(store.url(), "/", in_body.as_bytes()).status, 200);
        scope.spawn(|| {
            let kill = b"KILL QUERY WHERE query LIKE 'SELECT sleepEachRow%' ASYNC FORMAT Null";
            while !over.load(Ordering::Relaxed) {
                let answer = post(store.url(), "/", kill);
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
        });
        while killed.load(Ordering::Relaxed) < ALL {
            thread::yield_now();
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!((refused.into_inner(), killed.into_inner()), (20, ALL));
    assert_eq!(store.count("flows"), 20);
    store.stop();
}

#[test]
fn slow_readers_do_not_hold_up_others() {
    let store = Store::start();
    store.create("flows", 0);
    // Their answers are larger than all buffers on the way.
    let sql = "SELECT number, repeat('x', 200) FROM numbers(1000000)";
    let slow: Vec<_> = (0..20).map(|_| send_only(&store, "/", sql)).collect();
    wait_running(&store, "numbers(1000000)", 20);
    for round in 0..20 {
        let answer = post(store.url(), INSERT, tsv(round * 10..round * 10 + 10).as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(store.count("flows"), (round + 1) * 10);
    }
    // Each of them gets its whole answer all the same.
    let mut first = slow.into_iter().next().unwrap();
    let mut octets = 0;
    let mut piece = vec![0; 1 << 20];
    while let Ok(n @ 1..) = first.read(&mut piece) {
        octets += n;
    }
    assert!(octets > 1_000_000 * 200, "{octets}");
    store.stop();
}

#[test]
fn a_question_that_wants_too_much_memory_is_refused_and_the_engine_lives_on() {
    let store = Store::start_with(&["--memory-mib", "600"]);
    let pid = store.pid();
    store.create("flows", 0);
    assert_eq!(
        store
            .sql("SELECT value FROM system.server_settings WHERE name = 'max_server_memory_usage'"),
        (600 << 20).to_string()
    );
    let greedy = b"SELECT groupArray(repeat(toString(number), 100)) FROM numbers(100000000)";
    thread::scope(|scope| {
        let greedy = (0..4).map(|_| scope.spawn(|| post(store.url(), "/", greedy)));
        let greedy: Vec<_> = greedy.collect();
        for first in 0..50 {
            // An insert may meet the limit, too; then it is said, and nothing is stored.
            let answer = post(store.url(), INSERT, tsv(first..first + 1).as_bytes());
            assert!(answer.status == 200 || code(&answer) == Some(241), "{}", answer.text());
        }
        for answer in greedy {
            let answer = answer.join().unwrap();
            assert_eq!((answer.status, code(&answer)), (500, Some(241)), "{}", answer.text());
        }
    });
    let before = store.count("flows");
    assert_eq!(post(store.url(), INSERT, tsv(90..100).as_bytes()).status, 200);
    assert_eq!((store.count("flows"), store.pid()), (before + 10, pid));
    store.stop();
}

#[test]
fn a_query_is_known_by_its_clients_id_and_ended_by_it() {
    let store = Store::start();
    store.create("flows", 0);
    let ids = "SELECT query_id FROM system.processes WHERE query LIKE '%numbers(1000000000000)%' \
               AND query NOT LIKE '%system.processes%' ORDER BY query_id";
    let by_url = send_only(&store, "/?query_id=by-url", ENDLESS);
    let mut by_header = connect(store.url());
    write!(
        by_header,
        "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-ClickHouse-Query-Id: by-header\r\n\
         Content-Length: {}\r\n\r\n{ENDLESS}",
        ENDLESS.len()
    )
    .unwrap();
    while store.sql(ids) != "by-header\nby-url" {
        thread::yield_now();
    }
    for (id, stream) in [("by-url", by_url), ("by-header", by_header)] {
        store.sql(&format!("KILL QUERY WHERE query_id = '{id}' SYNC"));
        let answer = read_answer(stream).unwrap();
        assert_eq!((code(&answer), answer.header("x-clickhouse-query-id")), (Some(394), Some(id)));
    }
    assert_eq!(store.sql(ids), "");

    // An insert that waits for its client is one, too.
    let mut stream = connect(store.url());
    let rows = tsv(0..100);
    write!(
        stream,
        "POST {INSERT}&query_id=insert HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{rows}\r\n",
        rows.len()
    )
    .unwrap();
    let inserts = "SELECT count() FROM system.processes WHERE query_id = 'insert'";
    while store.sql(inserts) != "1" {
        thread::yield_now();
    }
    store.sql("KILL QUERY WHERE query_id = 'insert' ASYNC");
    let _ = stream.write_all(b"0\r\n\r\n");
    let answer = read_answer(stream).unwrap();
    assert_eq!(code(&answer), Some(394), "{}", answer.text());
    assert_eq!((store.sql(inserts), store.count("flows")), ("0".to_owned(), 0));
    store.stop();
}

#[test]
fn an_answer_has_a_servers_headers() {
    let store = Store::start();
    store.create("flows", 0);
    let answer = post(store.url(), &format!("{INSERT}&query_id=q1"), tsv(0..7).as_bytes());
    assert_eq!(answer.header("x-clickhouse-query-id"), Some("q1"));
    assert_eq!(
        answer.header("x-clickhouse-server-display-name"),
        Some(&*store.sql("SELECT displayName()"))
    );
    assert_eq!(answer.header("x-clickhouse-timezone"), Some(&*store.sql("SELECT timezone()")));
    let summary = answer.header("x-clickhouse-summary").unwrap();
    let summary: serde_json::Value = serde_json::from_str(summary).unwrap();
    assert_eq!(summary["written_rows"], "7");
    let answer = post(store.url(), "/", b"SELECT * FROM flows FORMAT CSV");
    let summary = answer.header("x-clickhouse-summary").unwrap();
    let summary: serde_json::Value = serde_json::from_str(summary).unwrap();
    assert_eq!((&summary["read_rows"], &summary["result_rows"]), (&"7".into(), &"7".into()));
    assert_eq!(answer.header("x-clickhouse-format"), Some("CSV"));
    let refused = post(store.url(), "/?query_id=q2", b"SELECT broken");
    assert_eq!(refused.header("x-clickhouse-query-id"), Some("q2"));
    assert_eq!(code(&refused), Some(47));
    store.stop();
}
