//! What metering costs a TCP connection: iperf3 between two namespaces, with and without
//! the agent at both ends (`auto`, the default). The runs alternate, so that both meet
//! the same neighbours of a shared machine. Needs root, iperf3 and libchdb.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

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

/// One run from the left end to the right: what the receiver got.
fn gigabits(lab: &Lab, seconds: u32) -> Result<f64> {
    let to = lab.right.v4(0).to_string();
    let mut server = iperf3(lab.right.namespace.name());
    server.args(["--server", "--one-off", "--forceflush", "--interval", "0", "--bind", &to]);
    let mut server = Server(server.spawn().context("cannot start iperf3")?);
    let said = BufReader::new(server.0.stdout.take().context("iperf3 has an output")?);
    let mut said = said.lines();
    // A client that comes before it listens is refused.
    while !said.next().context("iperf3 cannot listen")??.contains("listening") {}
    let mut client = iperf3(lab.left.namespace.name());
    client.args(["--json", "--time", &seconds.to_string(), "--client", &to]);
    let output = client.output()?;
    server.0.wait()?;
    let answer: Value = serde_json::from_slice(&output.stdout).context("iperf3 said no JSON")?;
    let bits = answer["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(bits.with_context(|| format!("iperf3: {}", answer["error"]))? / 1e9)
}

/// An iperf3 server that never outlives its run.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail harmlessly if it has ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn iperf3(namespace: &str) -> Command {
    let mut command = Command::new("ip");
    // The kernel kills it with this program, however that ends.
    command.args(["netns", "exec", namespace, "setpriv", "--pdeathsig=KILL", "iperf3"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
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
