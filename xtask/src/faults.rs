//! `cargo xtask test --faults`: the whole fault suite, and `docs/faults.md` of what it left.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::setup::{self, For};
use crate::test::{Steps, needs_root, words};
use crate::{build, command};

/// The test programs whose tests leave records.
const PROGRAMS: [&str; 16] = [
    "faults_*",
    "bad_input",
    "config",
    "crash",
    "differential",
    "endpoints",
    "exactly_once",
    "filters",
    "flood",
    "interfaces",
    "modes",
    "namespaces",
    "outage",
    "recovery",
    "store_keeper",
    "store_lost",
];

/// Runs them, each fault of the catalogue in its full size, and writes the page.
pub fn run() -> Result<ExitCode> {
    needs_root()?;
    let mut steps = Steps::new(setup::run(For::Test)?);
    if !steps.cargo("build", &words(&["build"], &["--bins"]), |_| {}) {
        return Ok(steps.summary());
    }
    // A record of an earlier run would hide that a fault was not injected in this one.
    let records = build::target_dir().join("faults");
    if records.exists() {
        std::fs::remove_dir_all(&records)
            .with_context(|| format!("{} cannot be removed", records.display()))?;
    }
    let mut options: Vec<&str> = PROGRAMS.iter().flat_map(|name| ["--test", name]).collect();
    options.extend(["--", "--test-threads=1"]);
    let suite = words(&["test", "--no-fail-fast"], &options);
    steps.cargo("faults", &suite, |cargo| {
        cargo.env("FLOW_AGENT_BIN", build::target_dir().join("debug/flow-agent"));
        cargo.env("FLOW_FAULTS_DIR", &records).env("FLOW_ALL_FAULTS", "1");
    });
    let page = command::workspace().join("docs/faults.md");
    let page = page.to_str().context("a path in UTF-8")?;
    let report = ["run", "--package", "flow-tests", "--bin", "flow-faults", "--", page];
    steps.cargo("report", &report, |cargo| {
        cargo.env("FLOW_FAULTS_DIR", &records);
    });
    Ok(steps.summary())
}
