//! The baseline: figures that were accepted, and what they were made with.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::command;
use crate::setup::Tools;

/// Name to figure.
pub type Figures = BTreeMap<String, f64>;

/// What was counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Tool to version: figures of other ones may differ.
    pub made_with: BTreeMap<String, String>,
    /// Instructions a unit of work, by function.
    pub instructions: Figures,
    /// By program: what the verifier says, and octets of stack.
    pub ebpf: BTreeMap<String, Figures>,
}

impl Baseline {
    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::from("guard: instructions a unit of work\n");
        for (name, count) in &self.instructions {
            let _ = writeln!(text, "  {name:<44} {count:>9.1}");
        }
        text += "guard: eBPF programs\n";
        for (name, figures) in &self.ebpf {
            let figures: Vec<_> =
                figures.iter().map(|(what, count)| format!("{what} {count}")).collect();
            let _ = writeln!(text, "  {name:<26} {}", figures.join(", "));
        }
        text.truncate(text.trim_end().len());
        text
    }
}

const HEAD: &str = "\
# What hot functions and eBPF programs cost in instructions. `cargo xtask guard` (part of\n\
# `cargo xtask test`) fails when one of them differs by more than 5 %, in either direction;\n\
# `cargo xtask guard --accept` writes this file.\n\n";

fn path() -> PathBuf {
    command::workspace().join("benches/baseline.toml")
}

/// The accepted one.
pub fn read() -> Result<Baseline> {
    let path = path();
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    toml::from_str(&text).with_context(|| {
        format!("{} is no baseline: `cargo xtask guard --accept` makes one", path.display())
    })
}

/// Accepts; where it was written.
pub fn write(baseline: &Baseline) -> Result<PathBuf> {
    let path = path();
    let text = HEAD.to_owned() + &toml::to_string(baseline)?;
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The versions of what figures depend on besides the sources.
pub fn made_with(tools: &Tools) -> Result<BTreeMap<String, String>> {
    let rustc = command::probe("rustc", &["-vV"]).context("cannot ask rustc for its version")?;
    let of = |name: &str| {
        let line = rustc.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or("unknown").trim().to_owned()
    };
    let valgrind = command::probe("valgrind", &["--version"]);
    let valgrind = valgrind.context("there is no valgrind: run `cargo xtask setup`")?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let kernel: Vec<&str> = kernel.trim().split('.').take(2).collect();
    Ok([
        ("rustc", of("release:")),
        ("LLVM", of("LLVM version:")),
        ("LLVM_of_eBPF", tools.bpf_llvm.to_string()),
        ("valgrind", valgrind.trim().trim_start_matches("valgrind-").to_owned()),
        ("kernel", kernel.join(".")),
        ("architecture", std::env::consts::ARCH.to_owned()),
    ]
    .map(|(tool, version)| (tool.to_owned(), version))
    .into())
}
