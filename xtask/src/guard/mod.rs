//! `cargo xtask guard`: what hot functions and eBPF programs cost in instructions, against the
//! figures in `benches/baseline.toml`. Counts, not times: the same on a busy machine.

use anyhow::{Context, Result, bail};

use crate::setup::Tools;
use crate::{build, command};

mod baseline;
mod callgrind;
mod compare;
mod verifier;

use baseline::Baseline;
use compare::Change;

/// How the guard's program is built (see there).
pub const BUILD: [&str; 8] = [
    "--config",
    "benches/guard.toml",
    "build",
    "--workspace",
    "--exclude",
    "flow-ebpf",
    "--bin",
    "flow-guard",
];

/// Counts, and compares with the baseline or writes a new one.
pub fn run(tools: &Tools, accept: bool) -> Result<()> {
    if !command::is_root() {
        bail!(
            "the guard loads the eBPF programs to ask the verifier, which needs root: run it as \
             root, for example `sudo -E env PATH=\"$PATH\" cargo xtask guard`"
        );
    }
    let mut cargo = command::cargo();
    // Only the members are compiled anew, and those not by parts.
    cargo.args(BUILD).env("CARGO_INCREMENTAL", "0");
    command::run(tools.apply(&mut cargo))?;
    let mut cargo = command::cargo();
    cargo.args(["build", "--workspace", "--exclude", "flow-ebpf", "--bin", "flow-agent"]);
    command::run(tools.apply(&mut cargo))?;
    let programs = build::target_dir().join("debug");
    let counted = Baseline {
        made_with: baseline::made_with(tools)?,
        instructions: callgrind::count(&programs.join("flow-guard"))?,
        ebpf: verifier::ask(&programs.join("flow-agent"))?,
    };
    if accept {
        let path = baseline::write(&counted)?;
        println!("{}\nwritten to {}: commit it, and say why", counted.table(), path.display());
        return Ok(());
    }
    let accepted = baseline::read().context("there is no baseline to compare with")?;
    let changes = compare::changes(&accepted, &counted);
    println!("{}", counted.table());
    if changes.is_empty() {
        println!("guard: nothing differs by more than {} %", compare::LIMIT_PERCENT);
        return Ok(());
    }
    println!("guard: of these, {} differ from benches/baseline.toml:", changes.len());
    for Change { what, words } in &changes {
        println!("  {what:<44} {words}");
    }
    for (tool, old, new) in compare::other_tools(&accepted, &counted) {
        println!(
            "  note: the baseline was made with {tool} {old}, this is {tool} {new}: that alone may be why"
        );
    }
    bail!(
        "instruction counts are not those of benches/baseline.toml (above). If that is meant, \
         `cargo xtask guard --accept` writes the new figures; commit them with the reason. Better \
         ones are written, too, so that they stay"
    )
}
