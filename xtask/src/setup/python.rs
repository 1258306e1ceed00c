//! A Python with `clickhouse-connect`, in a venv of its own: the tests of the
//! store drive it with that client, unmodified.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::report::{Step, found};
use crate::command;

const REQUIREMENT: &str = "clickhouse-connect==1.12.0";
const WHY: &str = "clickhouse-connect for the tests";

/// The system's Python before any other in PATH: the venv must outlive version managers.
fn base() -> PathBuf {
    let system = PathBuf::from("/usr/bin/python3");
    if system.is_file() { system } else { command::find("python3").unwrap_or(system) }
}

/// True if a venv can be made here (Debian splits that off into a package).
pub fn can_make_venv() -> bool {
    command::probe(base(), &["-c", "import venv, ensurepip"]).is_some()
}

/// Finds the venv's Python, else makes the venv.
pub fn ensure(cache: &Path) -> Result<PathBuf> {
    let venv = cache.join("venv");
    let python = venv.join("bin/python");
    let stamp = venv.join("flow-requirement");
    // The stamp is written last: it is there only if the install went through.
    if fs::read_to_string(&stamp).is_ok_and(|text| text == REQUIREMENT) && python.exists() {
        found("python", WHY, format!("{REQUIREMENT} {}", python.display()));
        return Ok(python);
    }
    let step = Step::begin("python", WHY, format!("venv with {REQUIREMENT}"));
    command::quiet(Command::new(base()).args(["-m", "venv", "--clear"]).arg(&venv))
        .context("the venv cannot be made")?;
    command::quiet(Command::new(&python).args(["-m", "pip", "install", "--quiet", REQUIREMENT]))
        .context("pip cannot install the client: check the network and pip's settings")?;
    fs::write(&stamp, REQUIREMENT)?;
    step.done(python.display());
    Ok(python)
}
