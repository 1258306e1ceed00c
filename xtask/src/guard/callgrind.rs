//! Instructions of hot functions: `flow-guard` (crate `flow-benches`) under callgrind.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::baseline::Figures;
use crate::{build, command};

/// What is counted is what the function of this name calls, and each time it returns the counts
/// are written and begin again.
const COLLECTED: &str = "flow_guard::collected";

/// Instructions a unit of work, by name.
pub fn count(program: &Path) -> Result<Figures> {
    let folder = build::target_dir().join("guard-counts");
    // What an earlier run has left would be taken for ours.
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let counts = folder.join("callgrind");
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--quiet", "--compress-strings=no"])
        .arg(format!("--toggle-collect={COLLECTED}"))
        .arg(format!("--dump-after={COLLECTED}"))
        .arg(format!("--callgrind-out-file={}", counts.display()))
        .arg(program)
        // The same everywhere: what the environment has would be in the memory of the program.
        .env_clear()
        .env("TMPDIR", &folder);
    let said = command::quiet(&mut valgrind)?;
    let mut figures = Figures::new();
    for (line, number) in said.lines().zip(1..) {
        let path = format!("{}.{number}", counts.display());
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("callgrind wrote no counts of \"{line}\" ({path})"))?;
        let (name, units) = line.split_once(' ').context("a line is a name and a number")?;
        let total = text.lines().find_map(|line| line.strip_prefix("summary: "));
        let total: f64 = total.context("the counts have no sum")?.trim().parse()?;
        let units: f64 = units.parse()?;
        ensure!(total > units, "{name}: {total} instructions for {units} units are none");
        figures.insert(name.to_owned(), (total / units * 10.0).round() / 10.0);
    }
    ensure!(!figures.is_empty(), "{} said nothing", command::shown(&valgrind));
    drop(std::fs::remove_dir_all(&folder));
    Ok(figures)
}
