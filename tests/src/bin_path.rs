//! Finds the `flow-agent` binary that the tests drive.

use std::path::PathBuf;

/// `FLOW_AGENT_BIN`, else `flow-agent` in the profile folder this test was built into.
pub fn flow_agent() -> PathBuf {
    if let Some(path) = std::env::var_os("FLOW_AGENT_BIN") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    let path = test
        .ancestors()
        .skip(1)
        .map(|folder| folder.join("flow-agent"))
        .find(|path| path.is_file());
    path.expect("flow-agent is not built: run `cargo build -p flow-agent`, or set FLOW_AGENT_BIN")
}
