//! Every form of statement that answers with rows does so over HTTP. Needs
//! libchdb (`cargo xtask setup`); no privileges.

use flow_tests::raw_http::{post, send};
use flow_tests::store::Store;

/// A statement and a line of its answer.
const FORMS: [(&str, &str); 39] = [
    ("SHOW DATABASES", "default"),
    ("SHOW DATABASES LIKE 'sys%'", "system"),
    ("show tables", "t"),
    ("SHOW TABLES FROM system LIKE 'one'", "one"),
    ("SHOW FULL TABLES", "t\tMergeTree"),
    ("SHOW PROCESSLIST FORMAT TSVWithNames", "is_initial_query\tuser"),
    ("SHOW FUNCTIONS LIKE 'plus'", "plus\t0\t0"),
    ("SHOW COLUMNS FROM t", "a\tInt8\tNO\tPRI SOR\t\\N\t"),
    ("SHOW INDEX FROM t", "t\t1\tPRIMARY\t1\ta"),
    ("SHOW SETTINGS LIKE 'max_threads'", "max_threads\tMaxThreads"),
    ("SHOW SETTING max_block_size", "65409"),
    ("SHOW CLUSTERS FORMAT TSVWithNames", "cluster"),
    ("SHOW ENGINES", "MergeTree\t1"),
    ("SHOW DICTIONARIES FORMAT TSVWithNames", "name"),
    ("SHOW MERGES FORMAT TSVWithNames", "table\tdatabase"),
    ("SHOW GRANTS", "GRANT SOURCES ON *.* TO default"),
    ("SHOW CREATE TABLE t", "CREATE TABLE default.t"),
    ("SHOW CREATE TABLE t FORMAT TSVRaw", "    `a` Int8"),
    ("SHOW CREATE DATABASE default", "CREATE DATABASE default"),
    ("SHOW TABLES FORMAT JSONEachRow SETTINGS max_threads = 1", "{\"name\":\"t\"}"),
    ("SHOW TABLES FORMAT JSON", "\t\"rows\": 1,"),
    ("SHOW TABLES LIKE 'nothing' FORMAT JSON", "\t\"rows\": 0,"),
    ("SHOW TABLES FORMAT PrettyCompact", "1. \u{2502} t    \u{2502}"),
    ("EXISTS TABLE t", "1"),
    ("EXISTS t", "1"),
    ("EXISTS DATABASE nothing", "0"),
    ("DESCRIBE TABLE t", "a\tInt8"),
    (
        "DESC t FORMAT JSONEachRow SETTINGS describe_compact_output = 1",
        "{\"name\":\"a\",\"type\":\"Int8\"}",
    ),
    ("DESCRIBE (SELECT 1 AS x)", "x\tUInt8"),
    ("EXPLAIN SELECT a FROM t", "ReadFromMergeTree (default.t)"),
    ("EXPLAIN AST SELECT 1", "SelectWithUnionQuery (children 1)"),
    ("EXPLAIN SYNTAX SELECT 1", "SELECT 1"),
    ("EXPLAIN ESTIMATE SELECT * FROM t", "default\tt\t1\t2\t1"),
    ("CHECK TABLE t", "all_1_1_0\t1"),
    ("SELECT name FROM system.tables WHERE database = 'default'", "t"),
    ("WITH 7 AS x SELECT x", "7"),
    ("FROM t SELECT max(a)", "2"),
    ("(SELECT 1) UNION ALL (SELECT 8)", "8"),
    ("SELECT * FROM VALUES('a Int8', 9)", "9"),
];

#[test]
fn every_form_answers() {
    let store = Store::start();
    store.sql("CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a");
    store.sql("INSERT INTO t VALUES (1), (2)");
    for (sql, line) in FORMS {
        let answer = post(store.url(), "/", sql.as_bytes());
        let text = answer.text();
        assert_eq!(answer.status, 200, "{sql}: {text}");
        assert!(text.lines().any(|l| l.trim().starts_with(line.trim())), "{sql}: {text}");
        if !sql.starts_with("CHECK") {
            let target = format!("/?query={}", percent(sql));
            let read = send(store.url(), "GET", &target, &[], b"");
            assert_eq!(read.status, 200, "GET {sql}: {}", read.text());
        }
    }
    assert_eq!(post(store.url(), "/", b"VALUES (1)").status, 400);
    store.stop();
}

#[test]
fn no_rows_are_an_answer_in_every_format() {
    let store = Store::start();
    for sql in ["SHOW TABLES", "SELECT name FROM system.tables WHERE 0"] {
        for (format, text) in [
            ("TSV", ""),
            ("TSVWithNames", "name\n"),
            ("PrettyCompact", ""),
            ("JSONEachRow", ""),
            ("JSONCompact", "\"rows\": 0"),
        ] {
            let answer = post(store.url(), "/", format!("{sql} FORMAT {format}").as_bytes());
            assert_eq!(answer.header("x-clickhouse-format"), Some(format), "{sql}");
            assert_eq!(answer.status, 200, "{sql}");
            match format {
                "JSONCompact" => assert!(answer.text().contains(text), "{}", answer.text()),
                _ => assert_eq!(answer.text(), text, "{sql} FORMAT {format}"),
            }
        }
    }
    store.stop();
}

fn percent(text: &str) -> String {
    text.bytes().fold(String::new(), |text, byte| format!("{text}%{byte:02x}"))
}
