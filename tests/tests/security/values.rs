//! What the status and the commands take stays a value, and never becomes SQL.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};
use flow_tests::bin_path::flow_agent;
use flow_tests::proxy::Proxy;
use flow_tests::raw_http;
use flow_tests::rig::{self, Rig};
use flow_tests::status::{ANY_PORT, Status};

use super::{INJECTIONS, canary, escaped, sings};

#[test]
fn sql_in_what_the_status_and_the_commands_take_stays_a_value() -> Result<()> {
    let rig = Rig::new()?;
    let proxy = Proxy::start(rig.store.url())?;
    let statements = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = statements.clone();
    proxy.on_request(move |request| {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(request.statement.clone());
        None
    });
    let agent = rig::agent(&rig.lab, ("tc", "tc"), &proxy.url(), &ANY_PORT)?;
    let status = Status::of(&agent)?;
    canary(&rig.store);
    let usual = |sql: &str| ["/api/v1/flows?key=", "&store=true"].join(&escaped(sql));
    // One that is right, so that the store is asked at all.
    let found = status.get(&usual("tcp,10.0.0.1:1,10.0.0.2:2"))?;
    ensure!(found.status == 200, "{}", found.text());
    ensure!(status.get("/api/v1/history?hours=1")?.status == 200);
    let asked = statements.lock().unwrap_or_else(PoisonError::into_inner).len();
    ensure!(asked > 2, "the store was asked");
    for sql in INJECTIONS {
        let value = escaped(sql);
        let targets = [
            usual(sql),
            usual(&format!("tcp,10.0.0.1:1,{sql}")),
            format!("/api/v1/flows?key=tcp,10.0.0.1:1,10.0.0.2:2&store={value}"),
            format!("/api/v1/history?hours={value}"),
            format!("/api/v1/flows/open?search={value}"),
            format!("/api/v1/flows/open?limit={value}"),
            format!("/api/v1/overview?since={value}"),
            format!("/api/v1/latency?buckets={value}"),
            format!("/api/v1/cache?details={value}"),
            format!("/api/v1/top?{value}=1"),
            format!("/api/v1/events?{value}"),
            format!("/{value}"),
        ];
        for target in targets {
            let answer = status.get(&target)?;
            ensure!(answer.status < 500, "{target}: {} {}", answer.status, answer.text());
        }
        for key in ["key", "prefix", "interface", "version", "mode"] {
            let order = serde_json::json!({ key: sql }).to_string();
            let kind = [("Content-Type", "application/json")];
            let path = "/api/v1/cache/invalidate";
            let answer = raw_http::send(status.url(), "POST", path, &kind, order.as_bytes());
            ensure!([200, 400, 429].contains(&answer.status), "{order}: {}", answer.text());
        }
        for command in [
            &["report", "top-talkers", "--last", sql][..],
            &["report", "conversations", "--from", sql],
            &["report", "services", "--limit", sql],
        ] {
            let output =
                Command::new(flow_agent()).args(command).args(["--store", &proxy.url()]).output();
            // The operating system refuses a NUL in an argument itself.
            if let Ok(output) = output {
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                ensure!(!text.contains("panicked"), "{command:?}: {text}");
            }
        }
    }
    for sql in INJECTIONS.iter().filter(|sql| !sql.contains(['\0', '\\', '\''])) {
        let parameter = format!("value={sql}");
        let output = Command::new(flow_agent())
            .args(["query", "SELECT {value:String}", "--param", &parameter])
            .args(["--store", rig.store.url()])
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(text.trim_end() == *sql, "{sql}: {text}");
    }
    for statement in statements.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        ensure!(!statement.contains("canary"), "a value became SQL: {statement}");
    }
    sings(&rig.store)?;
    agent.stop()?;
    Ok(())
}
