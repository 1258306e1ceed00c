//! `chromedriver` at a free port.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ChildStdout, Stdio};

use anyhow::{Context, Result};

use crate::process::{Child, command};

/// The running driver.
pub struct Driver {
    child: Child,
    url: String,
    /// Kept open: it writes to it.
    _output: BufReader<ChildStdout>,
}

impl Driver {
    /// Starts it and waits until it listens; its log goes to this folder.
    pub fn start(folder: &Path) -> Result<Self> {
        let mut command = command(Path::new("chromedriver"));
        command.args(["--port=0", "--allowed-origins=*"]).stdout(Stdio::piped());
        let mut child = Child::start("chromedriver", &mut command, &folder.join("driver.log"))?;
        let mut output = BufReader::new(child.output().context("it has an output")?);
        let words = "started successfully on port ";
        let mut line = String::new();
        let port = loop {
            line.clear();
            if output.read_line(&mut line)? == 0 {
                anyhow::bail!(
                    "chromedriver did not start: run `cargo xtask setup`\n{}",
                    child.log()
                );
            }
            if let Some((_, port)) = line.split_once(words) {
                break port.trim().trim_end_matches('.').to_owned();
            }
        };
        Ok(Self { child, url: format!("http://127.0.0.1:{port}"), _output: output })
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it said.
    pub fn log(&self) -> String {
        self.child.log()
    }
}
