//! A Python with `clickhouse-connect` and `openapi-spec-validator`, in a venv of its own: the
//! tests drive the store with that client, unmodified, and check the status with that validator.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::report::{Step, found};
use crate::command;

/// With one space between the packages.
const REQUIREMENT: &str = "clickhouse-connect==1.12.0 openapi-spec-validator==0.9.0";
const WHY: &str = "clickhouse-connect and a validator for the tests";

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
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet"]).args(REQUIREMENT.split(' '));
    command::quiet(&mut pip)
        .context("pip cannot install them: check the network and pip's settings")?;
    fs::write(&stamp, REQUIREMENT)?;
    step.done(python.display());
    Ok(python)
}
