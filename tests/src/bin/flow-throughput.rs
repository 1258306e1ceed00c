//! What metering costs a TCP connection: iperf3 between two namespaces, with and without
//! the agent at both ends (`auto`, the default). The runs alternate, so that both meet
//! the same neighbours of a shared machine. Needs root, iperf3 and libchdb.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use flow_tests::lab::Lab;
use flow_tests::rig;
use serde_json::Value;
use tempfile::TempDir;

/// Measures TCP throughput with and without the agent.
#[derive(Debug, Parser)]
struct Arguments {
    /// The flow-agent to measure
    agent: PathBuf,
    /// Runs of each kind
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// Length of a run
    #[arg(long, value_name = "S", default_value_t = 3)]
    seconds: u32,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.runs > 0, "--runs must be at least 1");
    let lab = Lab::new()?;
    let folder = TempDir::with_prefix("flow-throughput-")?;
    let store = format!("embedded:{}", folder.path().join("data").display());
    let _server = Server::start(&lab)?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    println!("run   without agent   with agent   Gbit/s");
    for run in 1..=arguments.runs {
        without.push(gigabits(&lab, arguments.seconds)?);
        let agent = rig::agent_of(&arguments.agent, &lab, ("auto", "auto"), &store, &[])?;
        with.push(gigabits(&lab, arguments.seconds)?);
        agent.stop()?;
        println!("{run:>3} {:>15.2} {:>12.2}", without[run - 1], with[run - 1]);
    }
    let (without, with) = (median(without), median(with));
    println!("median of {}: {without:.2} Gbit/s without, {with:.2} with", arguments.runs);
    println!("ratio: {:.3}", with / without);
    Ok(())
}

/// An iperf3 server at the right end, for as long as this lives.
struct Server(Child);

impl Server {
    fn start(lab: &Lab) -> Result<Self> {
        let mut command = iperf3(lab.right.namespace.name());
        let server = command.args(["--server", "--bind", &lab.right.v4(0).to_string()]);
        let server = Self(server.spawn().context("cannot start iperf3")?);
        // It listens within milliseconds; a client that comes earlier is refused.
        std::thread::sleep(Duration::from_millis(500));
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail harmlessly if it has ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// One run from the left end: what the receiver got.
fn gigabits(lab: &Lab, seconds: u32) -> Result<f64> {
    let mut client = iperf3(lab.left.namespace.name());
    client.args(["--json", "--time", &seconds.to_string(), "--client"]);
    let output = client.arg(lab.right.v4(0).to_string()).stdout(Stdio::piped()).output()?;
    let answer: Value = serde_json::from_slice(&output.stdout).context("iperf3 said no JSON")?;
    let bits = answer["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(bits.with_context(|| format!("iperf3: {}", answer["error"]))? / 1e9)
}

fn iperf3(namespace: &str) -> Command {
    let mut command = Command::new("ip");
    // The kernel kills it with this program, however that ends.
    command.args(["netns", "exec", namespace, "setpriv", "--pdeathsig=KILL", "iperf3"]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}
