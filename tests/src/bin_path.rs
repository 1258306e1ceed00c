//! Where the built `flow-agent` is.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// `FLOW_AGENT_BIN`, else `flow-agent` in the target folder of the running
/// test; fails with what to do when there is none.
pub fn flow_agent() -> PathBuf {
    let built = || {
        let test = std::env::current_exe().expect("a running test has a path");
        // target/debug/deps/store-0123 -> target/debug/flow-agent
        let folder = test.parent().and_then(|deps| deps.parent());
        folder.expect("a test lies in target/PROFILE/deps").join("flow-agent")
    };
    let path = std::env::var_os("FLOW_AGENT_BIN").map_or_else(built, PathBuf::from);
    assert!(
        path.is_file(),
        "no flow-agent at {}: run `cargo build -p flow-agent` first, or set FLOW_AGENT_BIN",
        path.display()
    );
    path
}

/// A program in `folder` that becomes the agent with these variables, `NAME=VALUE ...` as a shell
/// reads them, in its environment.
pub fn flow_agent_with(folder: &Path, variables: &str) -> Result<PathBuf> {
    let (program, agent) = (folder.join("agent.sh"), flow_agent());
    fs::write(&program, format!("#!/bin/sh\n{variables} exec {} \"$@\"\n", agent.display()))?;
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    Ok(program)
}
