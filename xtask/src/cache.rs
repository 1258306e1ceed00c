//! The cache folder: what `setup` fetched or built, outside `target/` so that
//! `cargo clean` and a fresh clone keep it.
//!
//! `$XDG_CACHE_HOME/flow-agent`, else `$HOME/.cache/flow-agent`. The build
//! script of flow-agent and its `store` command look in the same place.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where fetched and built tools are kept; created if it is missing.
pub fn dir() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(base) => PathBuf::from(base),
        None => Path::new(
            &env::var_os("HOME")
                .context("neither XDG_CACHE_HOME nor HOME is set: set one of them")?,
        )
        .join(".cache"),
    };
    let dir = base.join("flow-agent");
    fs::create_dir_all(&dir)
        .with_context(|| format!("cannot create the cache folder {}", dir.display()))?;
    Ok(dir)
}

/// Holds the cache for this process until the value is dropped, so that two
/// setups at once do not fetch or build the same thing twice.
pub fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}
