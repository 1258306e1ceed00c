//! `cargo xtask build`: leaves the agent at `target/release/flow-agent`.

use std::path::PathBuf;

use anyhow::Result;

use crate::command;
use crate::setup::{self, For, Tools};

/// The agent's binary and the tools it was built with.
pub struct Built {
    /// `target/release/flow-agent`.
    pub agent: PathBuf,
    /// What `setup` found or installed.
    pub tools: Tools,
}

/// Sets up and builds the release binary.
pub fn run(purpose: For) -> Result<Built> {
    let tools = setup::run(purpose)?;
    println!("building flow-agent (release)");
    let mut cargo = command::cargo();
    cargo.args(["build", "--release", "--package", "flow-agent"]);
    command::run(tools.apply(&mut cargo))?;
    let agent = target_dir().join("release/flow-agent");
    println!("built {}", agent.display());
    Ok(Built { agent, tools })
}

/// Where cargo puts what it builds.
pub fn target_dir() -> PathBuf {
    // A relative one is taken from the workspace, where cargo is run.
    let dir = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    command::workspace().join(dir)
}
