//! Where the built `flow-agent` is.

use std::path::PathBuf;

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
