//! The demo: real traffic between two network namespaces, metered by the live agent
//! into the embedded ClickHouse, compared with an independent count, and shown.
//!
//! Exits with 0 only if every packet and octet on the wire is in ClickHouse and the
//! ledger balances. However it ends, namespaces and child processes are gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use flow_tests::cleanup;
use flow_tests::lab::Lab;
use flow_tests::process::{Agent, Store};
use flow_tests::tally::Tally;
use tokio::signal::unix::{SignalKind, signal};

mod look;
mod plan;
mod verdict;
mod views;

use look::Look;
use verdict::Verdict;

/// Watch real traffic being metered into ClickHouse. Run by `cargo xtask demo`.
#[derive(Debug, Parser)]
#[command(name = "flow-demo")]
struct Arguments {
    /// The flow-agent binary
    agent: PathBuf,
    /// Where the demo's data is kept; the data of the last run there is replaced
    #[arg(long, default_value = "target/demo")]
    keep: PathBuf,
}

enum Event {
    Finished(Result<bool>),
    Interrupted,
}

/// Ended by Ctrl-C, as a shell reports it.
const INTERRUPTED: i32 = 130;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (sender, events) = mpsc::channel();
    let signals = sender.clone();
    thread::spawn(move || signals.send(wait_for_signal()));
    thread::spawn(move || work(&arguments, &sender));
    let mut event = events.recv();
    if matches!(event, Ok(Event::Finished(Err(_)))) {
        // Ctrl-C reaches the children too: what failed then is not worth telling.
        if let Ok(later) = events.recv_timeout(Duration::from_millis(200)) {
            event = Ok(later);
        }
    }
    match event {
        Ok(Event::Finished(Ok(true))) => ExitCode::SUCCESS,
        Ok(Event::Finished(Ok(false))) => ExitCode::FAILURE,
        Ok(Event::Finished(Err(error))) => {
            eprintln!("flow-demo: {error:#}");
            ExitCode::FAILURE
        }
        Ok(Event::Interrupted) => {
            eprintln!("\nflow-demo: interrupted, removing the lab");
            cleanup::exit(INTERRUPTED)
        }
        Err(_) => {
            eprintln!("flow-demo: it panicked, see above");
            ExitCode::FAILURE
        }
    }
}

fn work(arguments: &Arguments, sender: &Sender<Event>) {
    let result = demo(&arguments.agent, &arguments.keep);
    // Nobody listens any more only if the process is about to end.
    drop(sender.send(Event::Finished(result)));
}

fn wait_for_signal() -> Event {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime for signals");
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be caught");
        let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be caught");
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    });
    Event::Interrupted
}

/// The whole demo; true if what is stored is what was on the wire.
fn demo(agent: &Path, keep: &Path) -> Result<bool> {
    let look = Look::of_terminal();
    look.title("flow-agent demo");
    let data = keep.join("data");
    if data.exists() {
        fs::remove_dir_all(&data).with_context(|| format!("cannot empty {}", data.display()))?;
    }
    fs::create_dir_all(keep).with_context(|| format!("cannot create {}", keep.display()))?;

    let lab = Lab::demo()?;
    let (left, right) = (&lab.left, &lab.right);
    look.step(
        "lab",
        &format!(
            "namespaces {} and {}, joined by {} and {}",
            left.namespace.name(),
            right.namespace.name(),
            left.interface,
            right.interface
        ),
    );
    let store = Store::start(agent, &data, &keep.join("store.log"))?;
    look.step("store", &format!("embedded ClickHouse at {}", store.url()));
    let (left_spec, right_spec) = (left.spec("xdp"), right.spec("tc"));
    let metering = Agent::start(
        agent,
        &["--interface", &left_spec, "--interface", &right_spec, "--store", store.url()],
    )?;
    look.step("agent", "metering with native XDP on the left, TC on the right");
    let tallies = (Tally::start(left)?, Tally::start(right)?);
    look.step("tally", "an independent count of every packet at both ends");
    let sent = plan::run(&lab, look, &tallies.0)?;
    let wire = [tallies.0.stop()?, tallies.1.stop()?];
    let log = metering.stop()?;
    fs::write(keep.join("agent.log"), log)?;
    look.step("stopped", "the agent has emptied kernel, cache and batches into ClickHouse");

    let verdict = Verdict::reach(store.url(), [left, right], &wire)?;
    views::show(look, store.url(), left.interface)?;
    verdict.show(look, sent);
    store.stop()?;
    views::suggestions(look, agent, &data);
    ensure!(data.exists(), "the store left no data in {}", data.display());
    Ok(verdict.good())
}
