//! axe-core, which the test of the page looks for hindrances with: fetched once from npm, checked
//! against a pinned integrity, kept in the cache. For the tests alone; nothing of it is shipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::integrity;
use super::report::{Step, found};
use crate::command;

const VERSION: &str = "4.14.1";
const INTEGRITY: &str = "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==";
const WHY: &str = "accessibility of the page, for the tests";

/// Finds the script, else fetches it.
pub fn ensure(cache: &Path) -> Result<PathBuf> {
    let folder = cache.join(format!("axe-core-{VERSION}"));
    let script = folder.join("axe.min.js");
    if script.is_file() {
        found("axe-core", WHY, format!("{VERSION} {}", script.display()));
        return Ok(script);
    }
    let step = Step::begin("axe-core", WHY, format!("fetching {VERSION}, 0.7 MB packed"));
    let work = folder.join("fetch");
    drop(fs::remove_dir_all(&work));
    fs::create_dir_all(&work)?;
    let fetched = fetch(&work, &script);
    drop(fs::remove_dir_all(&work));
    fetched.with_context(|| format!("axe-core cannot be put into {}", folder.display()))?;
    step.done(script.display());
    Ok(script)
}

/// Puts the script in its place when its package has the pinned integrity: whole or not at all.
fn fetch(work: &Path, script: &Path) -> Result<()> {
    let mut npm = Command::new("npm");
    npm.args(["pack", "--silent", &format!("axe-core@{VERSION}")]).current_dir(work);
    command::quiet(&mut npm).context("check the network and npm's settings")?;
    let archive = work.join(format!("axe-core-{VERSION}.tgz"));
    let integrity = integrity::npm(&archive)?;
    ensure!(
        integrity == INTEGRITY,
        "axe-core {VERSION} has the integrity {integrity}, not the pinned {INTEGRITY}: the download \
         is broken or the package is not the one that was pinned"
    );
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(&archive).arg("-C").arg(work).arg("package/axe.min.js");
    command::quiet(&mut tar)?;
    Ok(fs::rename(work.join("package/axe.min.js"), script)?)
}
