//! `cargo xtask demo`: sets up, builds, and runs `flow-demo` with the agent just built.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::{build, command};

/// Builds all of it, then becomes the demo program: signals and the exit code are its own.
pub fn run() -> Result<ExitCode> {
    if !command::is_root() {
        bail!(
            "the demo makes network namespaces and loads eBPF programs, which needs root: \
             run it as root, for example `sudo -E env PATH=\"$PATH\" cargo xtask demo`"
        );
    }
    let built = build::run()?;
    println!("building flow-demo (release)");
    let mut cargo = command::cargo();
    // It shares what `build` has just compiled: the features of common crates are the same.
    cargo.args(["build", "--release", "--package", "flow-tests", "--bin", "flow-demo"]);
    command::run(built.tools.apply(&mut cargo))?;
    let program = build::target_dir().join("release/flow-demo");
    let mut demo = Command::new(&program);
    demo.arg(&built.agent).current_dir(command::workspace());
    // exec returns only if it failed.
    Err(built.tools.apply(&mut demo).exec())
        .with_context(|| format!("cannot start {}", program.display()))
}
