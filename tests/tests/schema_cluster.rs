//! The cluster's schema on two engines that replicate through a real ZooKeeper.
//!
//! The embedded engine runs no `ON CLUSTER` statement and serves no native port: the statements are
//! parsed as they are printed, and run on each replica without that clause; the tables over all
//! shards have the one shard that both replicas are.

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

/// Debian's ZooKeeper on a loopback port, with data of its own.
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
fn replicas_hold_each_batch_once_whichever_of_them_it_is_sent_to() -> Result<()> {
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
        for replica in &replicas {
            ask(replica, &statement.replace(&clause, ""))?;
        }
    }
    for replica in &replicas {
        let verified = run(&["schema", "verify", "--cluster", CLUSTER, "--store", replica.url()]);
        let said = String::from_utf8(verified.stdout)?;
        ensure!(verified.status.success(), "{said}{}", String::from_utf8_lossy(&verified.stderr));
    }

    let id = "01a1f927-bfa7-7d49-8437-18e207c06930";
    let exported_at = 1_795_192_200;
    let insert = format!(
        "INSERT INTO flow_local.flows (flow_start, flow_end, exported_at, exporter, src_ip, \
         dst_ip, dst_port, protocol, packets, bytes, batch_id) \
         SETTINGS insert_deduplication_token = '{id}', async_insert = 0, insert_deduplicate = 1, \
         deduplicate_blocks_in_dependent_materialized_views = 1, optimize_on_insert = 0 \
         SELECT toDateTime64({exported_at}, 9) - number % 60, flow_start, \
         toDateTime({exported_at}), 'probe', toIPv6('::1'), toIPv6('::2'), number % 50, 6, \
         number, number * 2, '{id}' FROM numbers(1000)"
    );
    for replica in [&replicas[0], &replicas[1], &replicas[0]] {
        ask(replica, &insert)?;
        let evidence = Schema::new("flow", false).on_cluster(CLUSTER).evidence(Table::Flows);
        for other in &replicas {
            for table in ["flows", "flows_1m", "flows_1h"] {
                ask(other, &format!("SYSTEM SYNC REPLICA flow_local.{table}"))?;
                let sums = "SELECT sum(packets), sum(bytes) FROM";
                assert_eq!(ask(other, &format!("{sums} flow_local.{table}"))?, "499500\t999000");
                assert_eq!(ask(other, &format!("{sums} flow.{table}"))?, "499500\t999000");
            }
            for evidence in &evidence {
                let count = evidence
                    .count_sql
                    .replace("{id:UUID}", &format!("toUUID('{id}')"))
                    .replace("{exported_at:UInt32}", &exported_at.to_string());
                assert_eq!(ask(other, &count)?, "1000", "{}", evidence.table);
            }
        }
    }

    // An agent that is given the tables over all shards is told where to insert.
    let refused = run(&["schema", "apply", "--store", replicas[0].url()]);
    let error = String::from_utf8(refused.stderr)?;
    assert_eq!(refused.status.code(), Some(1), "{error}");
    ensure!(error.contains("flow_local"), "{error}");
    let local = format!("{}/flow_local", replicas[0].url());
    let taken = run(&["schema", "apply", "--store", &local]);
    ensure!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    Ok(())
}
