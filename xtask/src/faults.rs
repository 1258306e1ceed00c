//! `cargo xtask test --faults`: the whole fault suite, and `docs/faults.md` of what it left.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::setup::{self, For};
use crate::test::{Steps, needs_root, words};
use crate::{build, command};

/// The test programs whose tests leave records.
const PROGRAMS: [&str; 17] = [
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
    "upgrade",
];

/// Runs them, each fault of the catalogue in its full size, and writes the page.
pub fn run() -> Result<ExitCode> {
    needs_root()?;
    let mut steps = Steps::new(setup::run(For::Test)?);
    let agent = build::target_dir().join("debug/flow-agent");
    let other_layout = build::target_dir().join("other-layout/flow-agent");
    let other =
        words(&["build"], &["--bin", "flow-agent", "--features", "flow-agent/other-layout"]);
    let is_built = steps.cargo("other layout", &other, |_| {})
        && steps.own("its copy", |_| copy(&agent, &other_layout))
        && steps.cargo("build", &words(&["build"], &["--bins"]), |_| {});
    if !is_built {
        return Ok(steps.summary());
    }
    // A record of an earlier run would hide that a fault was not injected in this one.
    let records = build::target_dir().join("faults");
    if records.exists() {
        fs::remove_dir_all(&records)
            .with_context(|| format!("{} cannot be removed", records.display()))?;
    }
    let mut options: Vec<&str> = PROGRAMS.iter().flat_map(|name| ["--test", name]).collect();
    options.extend(["--", "--test-threads=1"]);
    let suite = words(&["test", "--no-fail-fast"], &options);
    steps.cargo("faults", &suite, |cargo| {
        cargo.env("FLOW_AGENT_BIN", &agent).env("FLOW_OTHER_LAYOUT_BIN", &other_layout);
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

/// The next build writes its own into the place of `from`.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = to.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
        let _ = fs::remove_file(to); // a link would be written through
        fs::copy(from, to)
    });
    copied.map(drop).with_context(|| format!("{} cannot be made", to.display()))
}
