//! Questions to a store over its HTTP interface, as `curl` would ask them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Runs a query and returns the answer's lines, split at tabs.
pub fn rows(url: &str, query: &str) -> Result<Vec<Vec<String>>> {
    let text = text(url, query)?;
    Ok(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
}

/// Runs a query that answers with one number.
pub fn number(url: &str, query: &str) -> Result<u64> {
    let text = text(url, query)?;
    text.trim().parse().with_context(|| format!("not a number: {text:?}, the answer to {query}"))
}

/// Runs a query and returns the answer (`TabSeparated` unless the query says otherwise).
pub fn text(url: &str, query: &str) -> Result<String> {
    let address = url.strip_prefix("http://").context("the store's URL begins with http://")?;
    let mut stream = TcpStream::connect(address.trim_end_matches('/'))
        .with_context(|| format!("cannot reach the store at {url}"))?;
    stream.set_read_timeout(Some(Duration::from_mins(1)))?;
    // HTTP/1.0: the answer ends where the connection does.
    write!(
        stream,
        "POST / HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{query}",
        query.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("the store's answer broke off")?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("the store's answer has no body")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        bail!("the store refused a query (status {status}): {}\n{query}", body.trim());
    }
    Ok(body.to_owned())
}
