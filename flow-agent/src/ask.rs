//! The commands that ask the running agent: arguments enter, its answer is printed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use flow_agent::Error;
use flow_agent::config::{DEFAULT_STATUS, Source};
use flow_agent::sink::{PasswordFile, TlsFiles};
use flow_agent::status::{
    Client, FlowName, InvalidateOrder, StatusError, cache_report, read_token,
};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

use crate::cli::{AgentArgs, CacheCommand, ExplainArgs, InvalidateArgs, ReconcileArgs};
use crate::say;
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
    let name: FlowName =
        args.flow.join(" ").parse().map_err(|problem| StatusError::Usage { problem })?;
    let found = client(&args.agent)?.find(&name)?;
    let json = || serde_json::to_value(&found).map_or_else(|e| e.to_string(), |v| pretty(&v));
    print(&if args.json { json() } else { flow_agent::status::explain(&found) })
}

/// `flow-agent reconcile`.
pub fn reconcile(args: &ReconcileArgs) -> Result<(), Error> {
    let interval = Duration::from_secs(args.seconds);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Error::thread)?;
    let wait = || {
        runtime.block_on(async {
            let interrupted = signal(SignalKind::interrupt());
            say(&format_args!("comparing for {} s; Ctrl-C ends it sooner", args.seconds));
            match interrupted {
                Ok(mut interrupted) => drop(timeout(interval, interrupted.recv()).await),
                Err(_) => sleep(interval).await,
            }
        });
    };
    let done = flow_agent::reconcile::reconcile(&client(&args.agent)?, &args.interface, wait)?;
    let json = || serde_json::to_value(&done).map_or_else(|e| e.to_string(), |v| pretty(&v));
    print(&if args.json { json() } else { done.text() })?;
    match done.unexplained_interfaces {
        0 => Ok(()),
        interfaces => Err(Error::Unexplained { interfaces }),
    }
}

/// Where the agent is: as typed, as in its configuration, or the usual place; and what it wants.
pub fn client(args: &AgentArgs) -> Result<Client, Error> {
    let loaded = args.config.clone().map(|path| Source::here(Some(path), Vec::new()).load());
    let config = loaded.transpose()?.map(|loaded| loaded.config);
    let address = match (args.status, &config) {
        (Some(address), _) => address,
        (None, None) => DEFAULT_STATUS,
        (None, Some(config)) => {
            let path = args.config.clone().unwrap_or_default().display().to_string();
            config.status.address().ok_or(StatusError::Off { path })?
        }
    };
    let access = config.map(|config| config.status_access).unwrap_or_default();
    let mut client = Client::new(reachable(address));
    let typed = args.status_token_file.clone().map(PasswordFile::Path);
    if let Some(file) = typed.or(access.token_file) {
        let folder = std::env::var_os("CREDENTIALS_DIRECTORY").map(Into::into);
        client = client.with_token(read_token(&file, folder)?);
    }
    if args.status_ca_file.is_some() || access.tls.is_some() {
        let files = TlsFiles { ca: args.status_ca_file.clone(), client: None };
        client = client.with_tls(files.load()?);
    }
    Ok(client)
}

/// What listens at all addresses is asked at that of this host.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn print(text: &str) -> Result<(), Error> {
    let mut out = StandardOutput::default();
    out.write(text.as_bytes());
    out.finish()
}
