//! The store: is it there, does it let us in, would it recognise a repeated insert, does its
//! clock agree? An embedded one is not started: only what it needs is looked at.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::Finding;
use crate::clock::wall_clock;
use crate::config::Config;
use crate::schema::Schema;
use crate::sink::{ClickHouse, SinkError, StoreTarget};
use crate::store::library;
use crate::target::{Opening, Store};

/// How long one server may take in all.
const PATIENCE: Duration = Duration::from_secs(20);
/// Servers that are asked at most.
const MOST: usize = 64;

/// What was found of the store, and of its clock.
pub fn check(config: &Config) -> (Vec<Finding>, Vec<Finding>) {
    if let StoreTarget::Embedded(_) = &config.store {
        return (vec![engine()], Vec::new());
    }
    match ask(config) {
        Ok(found) => found,
        Err(error) => {
            let fix = "see [delivery] and `store` in the configuration";
            (vec![Finding::fail("store", error.to_string(), fix)], Vec::new())
        }
    }
}

fn engine() -> Finding {
    const CHECK: &str = "store";
    match library::find(None) {
        Ok(path) => Finding::ok(CHECK, format!("embedded; its engine is {}", path.display())),
        Err(error) => Finding::fail(
            CHECK,
            format!("embedded: {error}"),
            "install the package's libchdb.so, or name a ClickHouse server as `store`",
        ),
    }
}

fn ask(config: &Config) -> Result<(Vec<Finding>, Vec<Finding>), crate::Error> {
    let opening = Opening {
        access: config.delivery.access.clone(),
        exporter: &config.exporter,
        placement: config.delivery.placement,
        ..Opening::default()
    };
    // Opens nothing yet: these are servers.
    let store = Store::connect(&config.store, &opening)?;
    let endpoints = store.endpoints();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let found = runtime.map_err(crate::Error::thread)?.block_on(async {
        let (mut findings, mut skew) = (Vec::new(), Vec::new());
        for target in endpoints.all().take(MOST) {
            let address = target.client.address().to_string();
            let asked = timeout(PATIENCE, server(&target.client, config)).await;
            let (found, clock) = asked.unwrap_or_else(|_| {
                let found = format!("it has not answered all questions within {PATIENCE:?}");
                (vec![Finding::fail("store", found, "see its log and load")], None)
            });
            findings.extend(found.into_iter().map(|it| it.of(&address)));
            skew.extend(clock.map(|it| it.of(&address)));
        }
        (findings, skew)
    });
    store.close()?;
    Ok(found)
}

async fn server(client: &ClickHouse, config: &Config) -> (Vec<Finding>, Option<Finding>) {
    let asked = Instant::now();
    if let Err(error) = client.probe().await {
        let spool = config.spool.dir.is_some();
        return (vec![unreached(&error, spool)], None);
    }
    let took = asked.elapsed();
    let mut findings = vec![version(client, took).await];
    findings.extend(tables(client, config).await);
    (findings, Some(skew(client).await))
}

fn unreached(error: &SinkError, spool: bool) -> Finding {
    let fix = match error {
        SinkError::Denied { .. } => "check user and password_file of [delivery]",
        SinkError::Tls { .. } => "check ca_file, client_cert_file and the name in the address",
        _ if spool => {
            "start it, or correct `store` or --store, or the way there (routes, firewall); an \
             agent that runs goes on, and what it has waits in the spool"
        }
        _ => "start it, or correct `store` or --store, or the way there (routes, firewall)",
    };
    Finding::fail("store", error.to_string(), fix)
}

async fn version(client: &ClickHouse, took: Duration) -> Finding {
    /// Older ones no test has seen.
    const OLDEST: u32 = 24;
    const CHECK: &str = "store";
    let failed = |error: &SinkError| Finding::fail(CHECK, error.to_string(), "see its log");
    let answer = match client.table("SELECT version()").await {
        Ok(answer) => answer,
        Err(error) => return failed(&error),
    };
    let version = answer.first().and_then(|row| row.first()).cloned().unwrap_or_default();
    let found = format!("ClickHouse {version} answers in {:.1} ms", took.as_secs_f64() * 1e3);
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < OLDEST) {
        return Finding::warn(CHECK, format!("{found}; that is old"), "use 24.3 or later");
    }
    Finding::ok(CHECK, found)
}

/// The tables and what they remember of inserts.
async fn tables(client: &ClickHouse, config: &Config) -> Vec<Finding> {
    const CHECK: &str = "tables";
    let database = client.address().database.clone();
    let sql = format!(
        "SELECT engine FROM system.tables WHERE database = '{database}' AND name = 'flows'"
    );
    let engine = match client.table(sql).await {
        Ok(rows) => rows.into_iter().flatten().next(),
        Err(error) => return vec![refused(CHECK, &error)],
    };
    let Some(engine) = engine else {
        let found = format!("{database} has none yet: the agent makes them at its start");
        return vec![Finding::ok(CHECK, found)];
    };
    let mut schema = Schema::new(&database, false);
    if let Some(retention) = config.retention {
        schema = schema.keeping(retention);
    }
    let mut findings = Vec::new();
    // Those of a cluster are made under the cluster's name, which only `schema verify` is told.
    if engine == "MergeTree" {
        findings.push(match client.verify_schema(&schema).await {
            Err(error) => refused(CHECK, &error),
            Ok(differences) if differences.is_empty() => {
                Finding::ok(CHECK, format!("{database} has the schema of this agent"))
            }
            Ok(differences) => Finding::warn(
                CHECK,
                format!(
                    "{} differences from the schema of this agent, the first: {}",
                    differences.len(),
                    differences[0]
                ),
                "flow-agent schema verify shows all, flow-agent schema apply brings them up to date",
            ),
        });
    } else {
        findings.push(Finding::ok(CHECK, format!("{database}.flows is {engine}")));
    }
    findings.push(match client.check_windows(&schema).await {
        Ok(()) => Finding::ok(
            "deduplication",
            "every table that an insert reaches recognises a repeated one",
        ),
        Err(SinkError::NoWindow { table, problem, remedy, .. }) => Finding::fail(
            "deduplication",
            format!("{table} would store a repeated insert twice: {problem}"),
            remedy,
        ),
        Err(error) => refused("deduplication", &error),
    });
    findings
}

fn refused(check: &'static str, error: &SinkError) -> Finding {
    let fix = "grant the agent's user SELECT on system.tables and its database";
    Finding::fail(check, error.to_string(), fix)
}

/// The server's clock against ours, as far as the time between question and answer allows.
async fn skew(client: &ClickHouse) -> Finding {
    const CHECK: &str = "clock_skew";
    /// Beyond this, the agent's and the server's idea of now differ in queries.
    const MOST_MS: f64 = 1_000.0;
    let before = wall_clock();
    let answer = client.table("SELECT toUnixTimestamp64Nano(now64(9))").await;
    let after = wall_clock();
    let theirs = match &answer {
        Ok(rows) => rows.first().and_then(|row| row.first()?.parse::<i128>().ok()),
        Err(error) => return Finding::warn(CHECK, error.to_string(), "see its log"),
    };
    let Some(theirs) = theirs else {
        return Finding::warn(CHECK, "the server does not say its time", "see its log");
    };
    let ours = i128::midpoint(i128::from(before), i128::from(after));
    let (skew, width) = (theirs - ours, i128::from(after.saturating_sub(before)) / 2);
    let (skew, width) = (skew as f64 / 1e6, width as f64 / 1e6);
    let side = if skew < 0.0 { "behind" } else { "ahead" };
    let found = format!("the server's clock is {:.0} ms {side} (+-{width:.0} ms)", skew.abs());
    if skew.abs() > MOST_MS + width {
        return Finding::warn(CHECK, found, "synchronise both clocks (chrony, systemd-timesyncd)");
    }
    Finding::ok(CHECK, found)
}
