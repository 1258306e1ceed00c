//! Questions to a store, named as the agent names it: `http://HOST:PORT` is asked over
//! HTTP, as `curl` would; `embedded:DIR` by `flow-agent query`, as a person would.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::bin_path::flow_agent;
use crate::raw_http;

/// Runs a query and returns the answer's lines, split at tabs.
pub fn rows(store: &str, query: &str) -> Result<Vec<Vec<String>>> {
    let text = text(store, query)?;
    Ok(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
}

/// Runs a query that answers with one number.
pub fn number(store: &str, query: &str) -> Result<u64> {
    let text = text(store, query)?;
    text.trim().parse().with_context(|| format!("not a number: {text:?}, the answer to {query}"))
}

/// Runs a query and returns the answer (`TabSeparated` unless the query says otherwise).
pub fn text(store: &str, query: &str) -> Result<String> {
    if store.starts_with("embedded:") {
        return by_command(store, query);
    }
    let answer = raw_http::try_send(store, "POST", "/", &[], query.as_bytes())
        .with_context(|| format!("cannot ask the store at {store}"))?;
    if answer.status != 200 {
        let text = answer.text();
        bail!("the store refused a query (status {}): {}\n{query}", answer.status, text.trim());
    }
    ensure!(answer.whole, "the store's answer broke off: {query}");
    Ok(answer.text())
}

fn by_command(store: &str, query: &str) -> Result<String> {
    let output = Command::new(flow_agent())
        .args(["query", "--store", store, "--format", "TabSeparated", query])
        .output()
        .context("cannot start flow-agent query")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {errors}\n{query}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}
