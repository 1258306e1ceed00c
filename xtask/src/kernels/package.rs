//! Debian's kernel packages: which there are, and one of them unpacked into the cache.
//!
//! Enters: the package lists of this machine's apt. Leaves: a kernel image and a few modules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;

/// Modules that the tests need, and that are not built into Debian's kernels. None needs another.
pub const MODULES: [&str; 3] = ["veth", "sch_ingress", "cls_bpf"];

/// A package with a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    name: String,
}

/// An unpacked kernel.
pub struct Kernel {
    /// As `uname -r` says it.
    pub release: String,
    /// The image that boots.
    pub image: PathBuf,
    /// Its modules, each as `NAME.ko`.
    pub modules: PathBuf,
}

impl Package {
    /// The newest package of the oldest series that apt offers, and that of the newest series, if
    /// there is more than one.
    pub fn oldest_and_newest() -> Result<Vec<Self>> {
        let search = ["search", "--names-only", "^linux-image-[0-9].*cloud-amd64$"];
        let Some(answer) = command::probe("apt-cache", &search) else {
            bail!("apt-cache does not answer: kernels come as Debian packages")
        };
        let names = answer.lines().filter_map(|line| line.split(' ').next());
        let picked = pick(names);
        if picked.is_empty() {
            bail!("apt knows no package linux-image-*-cloud-amd64: run `apt-get update`")
        }
        let shown: Vec<&str> = picked.iter().map(|package| package.name.as_str()).collect();
        println!("kernels that apt offers, the oldest series and the newest: {}", shown.join(", "));
        Ok(picked)
    }

    /// Downloads and unpacks it, unless that was done before.
    pub fn unpack(&self, cache: &Path) -> Result<Kernel> {
        let release = release(&self.name).to_owned();
        let folder = cache.join(&release);
        let kernel =
            Kernel { image: folder.join("vmlinuz"), modules: folder.join("modules"), release };
        if folder.is_dir() {
            return Ok(kernel);
        }
        println!("downloading {}", self.name);
        // Under another name until all of it is there.
        let work = cache.join(format!("{}.part", kernel.release));
        let _ = fs::remove_dir_all(&work);
        fs::create_dir_all(work.join("modules"))?;
        command::quiet(Command::new("apt-get").args(["download", &self.name]).current_dir(&work))
            .with_context(|| format!("apt-get cannot download {}", self.name))?;
        let package =
            find(&work, |name| Path::new(name).extension().is_some_and(|it| it == "deb"))?
                .context("no package came")?;
        let tree = work.join("tree");
        command::quiet(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&tree))?;
        let image = find(&tree.join("boot"), |name| name.starts_with("vmlinuz"))?;
        fs::copy(image.context("the package has no vmlinuz")?, work.join("vmlinuz"))?;
        for module in MODULES {
            let names = [format!("{module}.ko"), format!("{module}.ko.xz")];
            let found = find(&tree.join("lib/modules"), |name| names.iter().any(|it| it == name))?;
            let found = found.with_context(|| format!("{} has no module {module}", self.name))?;
            let to = work.join("modules").join(found.file_name().context("a file has a name")?);
            fs::copy(&found, &to)?;
            if to.extension().is_some_and(|kind| kind == "xz") {
                command::quiet(Command::new("xz").arg("--decompress").arg(&to))?;
            }
        }
        fs::remove_dir_all(&tree)?;
        fs::remove_file(&package)?;
        fs::rename(&work, &folder)?;
        Ok(kernel)
    }
}

fn pick<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Package> {
    // Names without a full version are empty packages that depend on the newest of a series.
    let mut versions: Vec<(Vec<u32>, &str)> = names
        .map(|name| (numbers(release(name)), name))
        .filter(|(version, _)| version.len() > 3)
        .collect();
    versions.sort();
    let series = |version: &[u32]| [version[0], version[1]];
    let Some((last, newest)) = versions.last() else { return Vec::new() };
    let first = series(&versions[0].0);
    let oldest = versions.iter().rev().find(|(version, _)| series(version) == first);
    let mut picked = Vec::new();
    if let Some((_, oldest)) = oldest.filter(|(version, _)| series(version) != series(last)) {
        picked.push(Package { name: (*oldest).to_owned() });
    }
    picked.push(Package { name: (*newest).to_owned() });
    picked
}

fn release(name: &str) -> &str {
    name.trim_start_matches("linux-image-")
}

/// The numbers of a version; `amd64` is none of them.
fn numbers(release: &str) -> Vec<u32> {
    let version = release.trim_end_matches("-cloud-amd64");
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}

/// The first file below a folder whose name is right.
fn find(folder: &Path, is: impl Fn(&str) -> bool + Copy) -> Result<Option<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            if let Some(found) = find(&path, is)? {
                return Ok(Some(found));
            }
        } else if path.file_name().and_then(|name| name.to_str()).is_some_and(is) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_the_oldest_and_of_the_newest_series() {
        let names = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.12.9+deb12-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.10.11+bpo-cloud-amd64",
        ];
        let picked = |names: &[&'static str]| -> Vec<String> {
            pick(names.iter().copied()).into_iter().map(|package| package.name).collect()
        };
        assert_eq!(picked(&names), [names[2], names[4]]);
        assert_eq!(picked(&names[..1]), [names[0]]);
        assert!(picked(&[]).is_empty());
    }
}
