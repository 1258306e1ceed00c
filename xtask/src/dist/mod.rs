//! `cargo xtask dist`: a tarball, a Debian and an RPM package and a list of what is in them, in
//! `target/dist/out`.
//!
//! Enters: the workspace. Leaves: files that depend on the sources, the lock file and the compiler
//! alone: no path, no date and no order of this machine is in them. `--twice` proves it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::setup::{self, For, Tools};
use crate::{build, command};

mod archive;
mod deb;
mod rpm;
mod sbom;
mod tree;

use tree::Tree;

/// Builds everything; with `twice`, again from a copy of the sources in another folder, which must
/// give the same.
pub fn run(twice: bool, version: &str) -> Result<()> {
    let tools = setup::run(For::Build)?;
    let target = build::target_dir();
    let dist = target.join("dist");
    let made = make(&tools, command::workspace(), &dist, &dist.join("out"), version)?;
    for (path, hash) in &made {
        println!("{hash}  {}", path.display());
    }
    if twice {
        let folder = target.join("dist-again");
        let source = folder.join("source");
        copy_sources(&source)?;
        let again = make(&tools, &source, &folder.join("target"), &folder.join("out"), version)?;
        for ((path, first), (_, second)) in made.iter().zip(&again) {
            ensure!(first == second, "{} is another one each time", path.display());
        }
        println!("a second build gave the same {} files", again.len());
    }
    Ok(())
}

/// Builds these sources in this folder; the files and their SHA-256.
fn make(
    tools: &Tools,
    source: &Path,
    target: &Path,
    out: &Path,
    version: &str,
) -> Result<Vec<(PathBuf, String)>> {
    package(&compile(tools, source, target)?, out, version)
}

/// Copies the files that git knows to a folder that was not there before.
fn copy_sources(to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("cannot remove {}", to.display()))?;
    }
    let mut git = Command::new("git");
    git.current_dir(command::workspace());
    let list = command::quiet(git.args(["ls-files", "-z", "--cached"]))
        .context("--twice copies the files that git knows")?;
    for name in list.split_terminator('\0') {
        let (from, to) = (command::workspace().join(name), to.join(name));
        let folder = to.parent().context("it lies in a folder")?;
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

/// Packages this binary; the files, in a folder of their own, and their SHA-256.
pub fn package(agent: &Path, out: &Path, version: &str) -> Result<Vec<(PathBuf, String)>> {
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let bill = sbom::cyclonedx(version)?;
    let tree = Tree::new(agent, &bill, &out.join("pages"))?;
    let files = [
        (format!("flow-agent-{version}.cdx.json"), bill),
        (format!("flow-agent-{version}-{}.tar.gz", std::env::consts::ARCH), tree.tarball(version)?),
        (
            format!("flow-agent_{version}_{}.deb", deb::architecture()),
            deb::package(&tree, version)?,
        ),
        (
            format!("flow-agent-{version}-1.{}.rpm", std::env::consts::ARCH),
            rpm::package(&tree, version)?,
        ),
    ];
    let mut made = Vec::new();
    for (name, content) in files {
        let path = out.join(name);
        fs::write(&path, &content).with_context(|| format!("cannot write {}", path.display()))?;
        let hash = format!("{:x}", Sha256::digest(&content));
        made.push((path, hash));
    }
    Ok(made)
}

/// The release binary, without this machine's folders in it.
fn compile(tools: &Tools, source: &Path, target: &Path) -> Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo")));
    let home = home.context("neither CARGO_HOME nor HOME is set: set one of them")?;
    let flags = [
        // The last one that fits is taken: the target folder may lie in the workspace.
        format!("--remap-path-prefix={}=/usr/src/cargo", home.display()),
        format!("--remap-path-prefix={}=/usr/src/flow-agent", source.display()),
        format!("--remap-path-prefix={}=/usr/src/target", target.display()),
    ];
    println!("building flow-agent for packages (release)");
    let mut cargo = command::cargo();
    cargo
        .current_dir(source)
        .args(["build", "--release", "--locked", "--package", "flow-agent"])
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo");
    command::run(tools.apply(&mut cargo))?;
    Ok(target.join("release/flow-agent"))
}
