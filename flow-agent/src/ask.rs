//! The commands that ask the running agent: arguments enter, its answer is printed.

use flow_agent::Error;
use flow_agent::config::{DEFAULT_STATUS, Settings, Source};
use flow_agent::host::host_name;
use flow_agent::status::{Client, FlowName, InvalidateOrder, StatusError, cache_report};
use serde_json::Value;

use crate::cli::{AgentArgs, CacheCommand, ExplainArgs, InvalidateArgs};
use crate::standard_output::StandardOutput;

/// `flow-agent cache ...`.
pub fn cache(command: CacheCommand) -> Result<(), Error> {
    match command {
        CacheCommand::Stats { agent, json } => {
            let page = client(&agent)?.cache()?;
            print(&if json { pretty(&page) } else { cache_report(&page) })
        }
        CacheCommand::Invalidate(args) => invalidate(args),
    }
}

fn invalidate(args: InvalidateArgs) -> Result<(), Error> {
    let InvalidateArgs { agent, selection, hard } = args;
    let order = InvalidateOrder {
        key: selection.key,
        prefix: selection.prefix,
        interface: selection.interface,
        version: selection.version,
        all: selection.all.then_some(true),
        mode: Some(if hard { "hard" } else { "soft" }.into()),
    };
    let done = client(&agent)?.invalidate(&order)?;
    print(&format!(
        "{} flows emitted with {} packets, {}\n",
        done["flows"],
        done["packets"],
        if hard { "and removed" } else { "and kept" }
    ))
}

/// `flow-agent explain`.
pub fn explain(args: &ExplainArgs) -> Result<(), Error> {
    let name: FlowName = args.flow.parse().map_err(|problem| StatusError::Usage { problem })?;
    let found = client(&args.agent)?.find(&name)?;
    let json = || serde_json::to_value(&found).map_or_else(|e| e.to_string(), |v| pretty(&v));
    print(&if args.json { json() } else { flow_agent::status::explain(&found) })
}

/// Where the agent is: as typed, as in its configuration, or the usual place.
pub fn client(args: &AgentArgs) -> Result<Client, Error> {
    if let Some(address) = args.status {
        return Ok(Client::new(address));
    }
    let Some(path) = &args.config else { return Ok(Client::new(DEFAULT_STATUS)) };
    let source = Source {
        file: Some(path.clone()),
        typed: Settings::default(),
        host_name: host_name(),
        cpus: 1,
    };
    let off = || StatusError::Off { path: path.display().to_string() };
    Ok(Client::new(source.load()?.status.address().ok_or_else(off)?))
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn print(text: &str) -> Result<(), Error> {
    let mut out = StandardOutput::default();
    out.write(text.as_bytes());
    out.finish()
}
