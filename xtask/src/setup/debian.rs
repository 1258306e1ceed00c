//! Installs Debian packages as root; for anyone else, says the exact command.

use std::process::Command;

use anyhow::{Context, Result, bail};

use super::packages::Missing;
use super::report::{Step, found};
use crate::command;

/// Installs the packages, or fails with the command that would.
pub fn install(missing: &[Missing]) -> Result<()> {
    if missing.is_empty() {
        found("packages", "compilers, libraries, network tools", "all there");
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|missing| missing.package.as_str()).collect();
    let names = names.join(" ");
    for Missing { package, why } in missing {
        println!("  need  {package:<30} {why}");
    }
    if command::find("apt-get").is_none() {
        bail!(
            "these packages are missing and this machine has no apt-get to install them with: \
             {names}. Install what provides them, then run `cargo xtask setup` again"
        );
    }
    if !command::is_root() {
        bail!(
            "packages are missing and only root can install them. Run this, then \
             `cargo xtask setup` again:\n\n    \
             sudo apt-get update && sudo apt-get install --yes {names}\n"
        );
    }
    let step = Step::begin("packages", "apt-get install", &names);
    command::quiet(apt().arg("update"))
        .context("the package lists cannot be fetched: check the network and the apt sources")?;
    command::quiet(
        apt().args(["install", "--yes", "--no-install-recommends"]).args(names.split(' ')),
    )
    .with_context(|| format!("apt-get cannot install: {names}"))?;
    step.done("installed");
    Ok(())
}

/// True if `apt-get` knows a package of this name. A fresh machine may have no lists yet, so they
/// are fetched before the answer is no.
pub fn available(package: &str) -> bool {
    let is_known = || {
        command::probe("apt-cache", &["show", "--no-all-versions", package])
            .is_some_and(|answer| answer.contains("Package:"))
    };
    let fetch = || {
        command::is_root()
            && command::find("apt-get").is_some()
            && command::quiet(apt().arg("update")).is_ok()
    };
    is_known() || (fetch() && is_known())
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    apt.args(["--quiet=2", "-o", "DPkg::Lock::Timeout=300"]);
    apt
}
