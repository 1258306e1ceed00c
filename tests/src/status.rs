//! The status of a running agent, asked over HTTP and by the agent's own commands.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::bin_path::flow_agent;
use crate::process::Agent;
use crate::raw_http::{self, Answer};
use crate::tally::Key;

/// What an agent is told so that its status is at a free port.
pub const ANY_PORT: [&str; 2] = ["--status", "127.0.0.1:0"];

/// Where the status of an agent is.
#[derive(Debug, Clone)]
pub struct Status {
    url: String,
}

/// Samples by name and labels, as they are written: `name{label="value"}`.
pub type Samples = BTreeMap<String, f64>;

impl Status {
    /// Of an agent that was started with [`ANY_PORT`].
    pub fn of(agent: &Agent) -> Result<Self> {
        let words = "the status is at ";
        agent.wait_log(words, Duration::from_secs(10))?;
        let log = agent.log();
        let (_, rest) = log.split_once(words).context("just seen")?;
        let url = rest
            .split(|c: char| c.is_whitespace() || c == '"')
            .next()
            .context("an address follows")?;
        Ok(Self { url: url.to_owned() })
    }

    /// At `http://IP:PORT`, whoever may be there.
    pub fn at(url: &str) -> Self {
        Self { url: url.to_owned() }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("https://").trim_start_matches("http://")
    }

    /// Asks for a page.
    pub fn get(&self, target: &str) -> Result<Answer> {
        self.send("GET", target, &[], &[])
    }

    /// Asks, again if that was too often: tests ask more in a second than people do.
    fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer> {
        const TOO_MANY: u16 = 429;
        // Nobody sends: receiving is waiting.
        let (_sender, never) = mpsc::channel::<()>();
        let mut tries = 0;
        loop {
            let answer = raw_http::try_send(&self.url, method, target, headers, body)?;
            tries += 1;
            if answer.status != TOO_MANY || tries == 20 {
                return Ok(answer);
            }
            let _ = never.recv_timeout(Duration::from_millis(100));
        }
    }

    /// Asks for a JSON page that must be there.
    pub fn json(&self, target: &str) -> Result<Value> {
        let answer = self.get(target)?;
        ensure!(answer.status == 200, "{target}: {} {}", answer.status, answer.text());
        Ok(serde_json::from_str(&answer.text())?)
    }

    /// What is known of a flow.
    pub fn find(&self, key: &str) -> Result<Value> {
        self.json(&format!("/api/v1/flows?key={}", key.replace('[', "%5B").replace(']', "%5D")))
    }

    /// Has flows emitted.
    pub fn invalidate(&self, order: &Value) -> Result<Value> {
        let body = order.to_string();
        let kind = [("Content-Type", "application/json")];
        let target = "/api/v1/cache/invalidate";
        let answer = self.send("POST", target, &kind, body.as_bytes())?;
        ensure!(answer.status == 200, "{order}: {} {}", answer.status, answer.text());
        Ok(serde_json::from_str(&answer.text())?)
    }

    /// The text of the metrics.
    pub fn metrics_text(&self) -> Result<String> {
        let answer = self.get("/metrics")?;
        ensure!(answer.status == 200, "{}", answer.text());
        Ok(answer.text())
    }

    /// The metrics, sample by sample.
    pub fn metrics(&self) -> Result<Samples> {
        let text = self.metrics_text()?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').context("a sample has a value")?;
                Ok((name.to_owned(), value.parse()?))
            })
            .collect()
    }

    /// Runs `flow-agent` with these arguments and the address of this agent.
    pub fn command(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(flow_agent());
        command.args(arguments).args(["--status", self.address()]);
        command.output().context("flow-agent runs")
    }
}

/// Writes what only its owner may read.
pub fn write_secret(path: &Path, secret: &str) -> Result<()> {
    std::fs::write(path, format!("{secret}\n"))?;
    Ok(std::fs::set_permissions(path, Permissions::from_mode(0o600))?)
}

/// A level of an answer about a flow.
pub fn level<'a>(found: &'a Value, name: &str) -> &'a Value {
    let levels = found["levels"].as_array().map(Vec::as_slice).unwrap_or_default();
    levels.iter().find(|level| level["level"] == name).unwrap_or(&Value::Null)
}

/// A flow as the agent is asked for it.
pub fn name(key: &Key) -> String {
    use std::net::SocketAddr;
    let end = |address, port| SocketAddr::new(address, port).to_string();
    let (source, destination) =
        (end(key.source, key.source_port), end(key.destination, key.destination_port));
    format!("{},{source},{destination}", key.protocol)
}
