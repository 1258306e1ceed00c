//! `cargo xtask capture`: makes the capture that readers are measured with.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::setup::{self, For, Tools};
use crate::{build, command};

/// Builds `flow-capture` of the crate `flow-benches` and runs it with these arguments.
pub fn run(arguments: &[OsString]) -> Result<ExitCode> {
    make(&setup::run(For::Build)?, arguments)?;
    Ok(ExitCode::SUCCESS)
}

/// The same where setup is done.
pub fn make(tools: &Tools, arguments: &[OsString]) -> Result<()> {
    let mut cargo = command::cargo();
    cargo.args(["build", "--release", "--package", "flow-benches", "--bin", "flow-capture"]);
    command::run(tools.apply(&mut cargo))?;
    let program = build::target_dir().join("release/flow-capture");
    command::run(std::process::Command::new(program).args(arguments))
}
