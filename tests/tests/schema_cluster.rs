//! The cluster's schema on two engines with a real `ZooKeeper`.
//!
//! The embedded engine runs no `ON CLUSTER` statement and serves neither the native nor the
//! replication port, so its replicated tables take no rows: the statements are parsed as they are
//! printed, and run on each replica without that clause; `ZooKeeper` must then know both replicas of
//! each table, and `schema verify` must find no difference. The tables over all shards have one.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flow_agent::frozen::Table;
use flow_agent::schema::Schema;
use flow_tests::bin_path::flow_agent;
use flow_tests::{process, sql};
use tempfile::TempDir;

const CLUSTER: &str = "fleet";
const STARTING: Duration = Duration::from_mins(1);

/// Debian's `ZooKeeper` on a loopback port, with data of its own.
struct ZooKeeper {
    process: Child,
    port: u16,
}

impl ZooKeeper {
    fn start(folder: &Path) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = folder.join("zoo.cfg");
        let data = folder.join("zookeeper");
        fs::create_dir(&data)?;
        let text = format!(
            "tickTime=2000\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\n\
             admin.enableServer=false\n",
            data.display()
        );
        fs::write(&config, text)?;
        let log = File::create(folder.join("zookeeper.log"))?;
        let process = Command::new("java")
            .args(["-Xmx256m", "-cp", "/usr/share/java/*"])
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(&config)
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            .spawn()
            .context("java does not start: run `cargo xtask setup` for Debian's zookeeper")?;
        let mut keeper = Self { process, port };
        let deadline = Instant::now() + STARTING;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(keeper.process.try_wait()?.is_none(), "ZooKeeper ended");
            ensure!(Instant::now() < deadline, "ZooKeeper does not listen after {STARTING:?}");
            std::thread::park_timeout(Duration::from_millis(50));
        }
        Ok(keeper)
    }
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn replica(folder: &Path, name: &str, keeper: &ZooKeeper) -> Result<process::Store> {
    let config = folder.join(format!("{name}.xml"));
    let text = format!(
        "<clickhouse><tcp_port>9000</tcp_port>\
         <zookeeper><node><host>127.0.0.1</host><port>{}</port></node></zookeeper>\
         <macros><shard>1</shard><replica>{name}</replica></macros>\
         <remote_servers><{CLUSTER}><shard><internal_replication>true</internal_replication>\
         <replica><host>127.0.0.1</host><port>9000</port></replica></shard></{CLUSTER}>\
         </remote_servers></clickhouse>",
        keeper.port
    );
    fs::write(&config, text)?;
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--config-file",
        config.to_str().context("a path that is a text")?,
    ];
    process::Store::start_with(
        &flow_agent(),
        &folder.join(name),
        &folder.join(format!("{name}.log")),
        &arguments,
    )
}

fn run(arguments: &[&str]) -> Output {
    Command::new(flow_agent()).args(arguments).output().unwrap()
}

#[test]
fn the_clusters_tables_are_made_on_each_replica_as_they_are_printed() -> Result<()> {
    let folder = TempDir::with_prefix("flow-cluster-")?;
    let keeper = ZooKeeper::start(folder.path())?;
    let replicas = [replica(folder.path(), "a", &keeper)?, replica(folder.path(), "b", &keeper)?];
    let ask = |replica: &process::Store, text: &str| -> Result<String> {
        Ok(sql::text(replica.url(), text)?.trim_end().to_owned())
    };

    let printed = run(&["schema", "print", "--cluster", CLUSTER]);
    ensure!(printed.status.success());
    let script = String::from_utf8(printed.stdout)?;
    let clause = format!(" ON CLUSTER '{CLUSTER}'");
    for statement in script.split(";\n\n").filter(|text| !text.trim().is_empty()) {
        let notes = statement.starts_with("INSERT INTO flow_local.schema_migrations");
        ensure!(notes || statement.contains(&clause), "{statement}");
        ask(&replicas[0], &format!("EXPLAIN AST {statement}"))?;
        for replica in replicas.iter().filter(|_| !notes) {
            ask(replica, &statement.replace(&clause, ""))?;
        }
    }
    for replica in &replicas {
        let verified = run(&["schema", "verify", "--cluster", CLUSTER, "--store", replica.url()]);
        let said = String::from_utf8(verified.stdout)?;
        ensure!(verified.status.success(), "{said}{}", String::from_utf8_lossy(&verified.stderr));
    }

    // Both registered as replicas of the same tables.
    for replica in &replicas {
        let registered = ask(
            replica,
            "SELECT table, total_replicas FROM system.replicas ORDER BY table SETTINGS \
             max_execution_time = 30",
        )?;
        let expected = [
            "devices\t2",
            "events\t2",
            "flows\t2",
            "flows_1h\t2",
            "flows_1m\t2",
            "latency\t2",
            "ledger\t2",
            "schema_migrations\t2",
        ];
        assert_eq!(registered.lines().collect::<Vec<_>>(), expected);
        // The tables over all shards and the views answer.
        assert_eq!(ask(replica, "SELECT count(), sum(packets) FROM flow.flows")?, "0\t0");
        let hour = "from = '2026-11-20 12:00:00', to = '2026-11-20 13:00:00'";
        assert_eq!(ask(replica, &format!("SELECT count() FROM flow.conversations({hour})"))?, "0");
        for evidence in Schema::new("flow", false).on_cluster(CLUSTER).evidence(Table::Flows) {
            let count = evidence
                .count_sql
                .replace("{id:UUID}", "generateUUIDv4()")
                .replace("{exported_at:UInt32}", "1795192200");
            assert_eq!(ask(replica, &count)?, "0", "{}", evidence.table);
        }
    }

    // An agent that is given the tables over all shards is told where to insert.
    let refused = run(&["schema", "apply", "--store", replicas[0].url()]);
    let error = String::from_utf8(refused.stderr)?;
    assert_eq!(refused.status.code(), Some(1), "{error}");
    ensure!(error.contains("flow_local"), "{error}");
    let local = format!("{}/flow_local", replicas[0].url());
    // A cluster's tables are a person's: an agent asks for them and leaves them as they are.
    let refused = run(&["schema", "apply", "--store", &local]);
    let error = String::from_utf8(refused.stderr)?;
    assert_eq!(refused.status.code(), Some(1), "{error}");
    ensure!(error.contains("schema apply --cluster"), "{error}");
    Ok(())
}
