//! What the kernel's verifier says of each eBPF program: `flow-agent bench verifier`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::baseline::Figures;
use crate::command;

/// What is kept of a program.
const FIGURES: [&str; 3] = ["verified", "instructions", "stack_bytes"];

/// Asks; by program.
pub fn ask(agent: &Path) -> Result<BTreeMap<String, Figures>> {
    let said = command::quiet(Command::new(agent).args(["bench", "verifier", "--json"]))?;
    let mut programs = BTreeMap::new();
    for line in said.lines() {
        let result: Value = serde_json::from_str(line).context("the agent said no JSON")?;
        let mut name = result["program"].as_str().context("a program has a name")?.to_owned();
        if result["decapsulate"] == true {
            name += "_decapsulate";
        }
        let figure = |what: &&str| {
            let count = result[*what].as_f64().with_context(|| format!("{name} has no {what}"))?;
            Ok(((*what).to_owned(), count))
        };
        let figures = FIGURES.iter().map(figure).collect::<Result<_>>()?;
        programs.insert(name, figures);
    }
    ensure!(!programs.is_empty(), "the agent named no program");
    Ok(programs)
}
