//! The Python of the tests: independent clients and validators.

use std::path::{Path, PathBuf};

/// `FLOW_PYTHON`, else the Python that `cargo xtask setup` prepares; fails with what to do.
pub fn python() -> PathBuf {
    let prepared = || {
        let home = std::env::var_os("HOME").expect("HOME is set");
        Path::new(&home).join(".cache/flow-agent/venv/bin/python")
    };
    let path = std::env::var_os("FLOW_PYTHON").map_or_else(prepared, PathBuf::from);
    assert!(
        path.is_file(),
        "no Python for the tests at {}: run `cargo xtask setup`, or set FLOW_PYTHON",
        path.display()
    );
    path
}
