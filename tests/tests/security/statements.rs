//! The embedded store runs the one statement that it was sent, and nothing of what surrounds it.

use anyhow::{Context, Result, ensure};
use flow_tests::raw_http::{self, Answer};
use flow_tests::store::Store;

use super::{INJECTIONS, canary, escaped, sings};

#[test]
fn sql_in_what_surrounds_a_query_of_the_store_is_not_run() -> Result<()> {
    let store = Store::start();
    store.sql("CREATE DATABASE flow");
    canary(&store);
    let get = |target: &str, headers: &[(&str, &str)]| {
        raw_http::send(store.url(), "POST", target, headers, b"SELECT 1 FORMAT TSV")
    };
    ensure!(get("/?max_threads=1", &[]).text() == "1\n");
    for sql in INJECTIONS {
        let value = escaped(sql);
        for name in [
            "database",
            "default_format",
            "query_id",
            "session_id",
            "session_timeout",
            "max_threads",
            "log_comment",
            "user",
            "compress",
            "client_protocol_version",
        ] {
            whole_or_refused(&get(&format!("/?{name}={value}"), &[]), name, sql)?;
        }
        // As the name of a setting, in a header, as a parameter.
        whole_or_refused(&get(&format!("/?{value}=1"), &[]), "a name", sql)?;
        if !sql.contains('\0') {
            for header in ["X-ClickHouse-Database", "X-ClickHouse-Format", "X-ClickHouse-Query-Id"]
            {
                whole_or_refused(&get("/", &[(header, sql)]), header, sql)?;
            }
        }
        let target =
            format!("/?query=SELECT+%7Bx:String%7D+AS+x+FORMAT+JSONEachRow&param_x={value}");
        let answer = raw_http::send(store.url(), "GET", &target, &[], b"");
        // Backslashes mean something in a parameter; what cannot be read is refused.
        if answer.status == 200 && !sql.contains('\\') {
            let row: serde_json::Value = serde_json::from_str(&answer.text())?;
            ensure!(row["x"] == sql, "{row}");
        }
        // Several statements in one request, and writing by GET.
        for statement in
            ["SELECT 1; DROP TABLE flow.canary", "SELECT 1;;/**/DROP TABLE flow.canary"]
        {
            let answer = raw_http::post(store.url(), "/", statement.as_bytes());
            ensure!(answer.status == 400, "{}", answer.text());
        }
        let answer = raw_http::send(store.url(), "GET", "/?query=DROP+TABLE+flow.canary", &[], b"");
        ensure!(answer.status >= 400 && answer.text().contains("readonly"), "{}", answer.text());
    }
    sings(&store)?;
    store.stop();
    Ok(())
}

/// The answer to `SELECT 1`, or an error.
fn whole_or_refused(answer: &Answer, place: &str, sql: &str) -> Result<()> {
    let right = answer.status == 200 && answer.text().contains('1');
    ensure!(
        right || (400..=500).contains(&answer.status),
        "{place} {sql}: {} {}",
        answer.status,
        answer.text()
    );
    Ok(())
}

/// A text whose tokens are other ones for the engine than they seem, so that a statement hides.
const HIDDEN: [&str; 11] = [
    "SELECT 1 AS a$b$; DROP TABLE flow.canary; SELECT 2 AS c$b$",
    "SELECT 1 AS $a$; DROP TABLE flow.canary",
    "SELECT 1 a$b$ ; TRUNCATE TABLE flow.canary",
    "SELECT 1$a$'$a$; DROP TABLE flow.canary; SELECT ''",
    "SELECT 1\u{a0}AS x$a$'$a$; DROP TABLE flow.canary; SELECT ''",
    "SELECT \u{2018}'\u{2019}; DROP TABLE flow.canary; SELECT \u{2018}'\u{2019}",
    "SELECT 1 /* /* */ ' */; DROP TABLE flow.canary; SELECT ' '",
    "SELECT x'\\'; DROP TABLE flow.canary; SELECT '",
    "EXPLAIN SYNTAX SELECT 1 AS a$b$; DROP TABLE flow.canary",
    "WITH 1 AS a$b$ INSERT INTO flow.canary SELECT 'red' AS c$b$",
    ";DROP TABLE flow.canary",
];

/// Any page in a browser can send a GET, also to a store on loopback.
#[test]
fn no_statement_hides_behind_another_one() -> Result<()> {
    let store = Store::start();
    store.sql("CREATE DATABASE flow");
    canary(&store);
    for sql in HIDDEN {
        let target = format!("/?query={}", escaped(sql));
        let by_get = raw_http::send(store.url(), "GET", &target, &[], b"");
        ensure!(by_get.status >= 400, "{sql}: {}", by_get.text());
        sings(&store).with_context(|| sql.to_owned())?;
        if !sql.contains("INSERT") {
            let by_post = raw_http::post(store.url(), "/", sql.as_bytes());
            ensure!(by_post.status >= 400, "{sql}: {}", by_post.text());
            sings(&store).with_context(|| sql.to_owned())?;
        }
    }
    let insert = "INSERT INTO flow.canary (name) SETTINGS a$b$; DROP TABLE flow.canary; \
                  SELECT c$b$ VALUES ('red')";
    ensure!(raw_http::post(store.url(), "/", insert.as_bytes()).status >= 400);
    sings(&store)?;
    // What a page has a browser send says so.
    for header in [("Origin", "https://example.org"), ("Sec-Fetch-Site", "cross-site")] {
        let sql = b"DROP TABLE flow.canary";
        let refused = raw_http::send(store.url(), "POST", "/", &[header], sql);
        ensure!(refused.status == 403 && refused.text().contains("web page"), "{header:?}");
    }
    sings(&store)?;
    // What is one statement for both goes on.
    ensure!(store.sql("SELECT $a$ it's $a$;") == " it\\'s");
    ensure!(store.sql("SELECT 'ä;$' -- ; \n") == "ä;$");
    store.stop();
    Ok(())
}
