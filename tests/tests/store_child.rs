//! The store as the agent's child: who may ask it, and what happens when it
//! dies. Needs libchdb (`cargo xtask setup`); no privileges.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flow_agent::store::EmbeddedStore;
use flow_tests::bin_path::flow_agent;
use flow_tests::raw_http::{Answer, send};
use flow_tests::store::DEADLINE;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

fn ask(store: &EmbeddedStore, sql: &str) -> Answer {
    let headers =
        [("X-ClickHouse-User", EmbeddedStore::USER), ("X-ClickHouse-Key", store.password())];
    send(store.url(), "POST", "/", &headers, sql.as_bytes())
}

#[test]
fn it_answers_only_who_has_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::start(&flow_agent(), &dir.path().join("data"), DEADLINE).unwrap();
    let key = store.password().to_owned();
    assert!(key.len() >= 22, "less than 128 bits");
    let get =
        |target: &str, headers: &[(&str, &str)]| send(store.url(), "GET", target, headers, b"");
    assert_eq!(get("/ping", &[]).text(), "Ok.\n");
    assert_eq!(ask(&store, "SELECT 1").text(), "1\n");
    assert_eq!(get("/?query=SELECT+1", &[("X-ClickHouse-Key", &key)]).text(), "1\n");
    let url = format!("/?query=SELECT+1&user=default&password={key}");
    assert_eq!(get(&url, &[]).text(), "1\n");
    let basic = |user: &str, password: &str| {
        format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
    };
    let right = basic("default", &key);
    assert_eq!(get("/?query=SELECT+1", &[("Authorization", &right)]).text(), "1\n");
    for (target, headers) in [
        ("/?query=SELECT+1", vec![]),
        ("/?query=SELECT+1&password=x", vec![("X-ClickHouse-Key", key.as_str())]),
        ("/?query=SELECT+1&user=bob", vec![("X-ClickHouse-Key", &key)]),
        ("/?query=SELECT+1", vec![("X-ClickHouse-Key", "")]),
        ("/?query=SELECT+1", vec![("X-ClickHouse-Key", &key[1..])]),
        ("/?query=SELECT+1", vec![("Authorization", &basic("bob", &key))]),
        ("/?query=SELECT+1&no_such_setting=1", vec![]),
    ] {
        let answer = get(target, &headers);
        let code = answer.header("x-clickhouse-exception-code");
        assert_eq!((answer.status, code), (403, Some("516")), "{target}: {}", answer.text());
        assert!(!answer.text().contains(&key));
    }
    // Neither its command line nor its environment nor a log shows the key.
    for file in ["cmdline", "environ"] {
        let bytes = std::fs::read(format!("/proc/{}/{file}", store.pid())).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(&key), "{file}");
    }
    assert!(!format!("{store:?}").contains(&key));
    store.stop(DEADLINE).unwrap();
}

#[test]
fn killed_it_is_started_again_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut store =
        EmbeddedStore::start(&flow_agent(), &dir.path().join("data"), DEADLINE).unwrap();
    let (url, key, pid) = (store.url().to_owned(), store.password().to_owned(), store.pid());
    assert!(!store.ensure_running().unwrap());
    ask(&store, "CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a");
    assert_eq!(ask(&store, "INSERT INTO t VALUES (1), (2)").status, 200);
    let process = Pid::from_raw(pid.cast_signed()).unwrap();
    let ended = pidfd_open(process, PidfdFlags::empty()).unwrap();
    kill_process(process, Signal::KILL).unwrap();
    let mut polled = [rustix::event::PollFd::new(&ended, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut polled, None).unwrap();
    assert!(store.ensure_running().unwrap());
    assert_eq!((store.url(), store.password()), (url.as_str(), key.as_str()));
    assert_ne!(store.pid(), pid);
    assert_eq!(ask(&store, "SELECT sum(a) FROM t").text(), "3\n");
    assert!(!store.ensure_running().unwrap());
    store.stop(DEADLINE).unwrap();
}

#[test]
fn a_store_that_does_not_start_says_why() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("letter"), "x").unwrap();
    let error = EmbeddedStore::start(&flow_agent(), dir.path(), DEADLINE).unwrap_err();
    assert!(error.to_string().contains("is not empty"), "{error}");
    assert_eq!(error.exit() as u8, 2);
    let error = EmbeddedStore::start(Path::new("/nowhere"), dir.path(), DEADLINE).unwrap_err();
    assert!(error.to_string().contains("/nowhere"), "{error}");
}
