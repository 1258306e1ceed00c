//! The file system in which a kernel finds itself: busybox, the agent, the tests, their libraries.
//!
//! Enters: programs of this machine. Leaves: an uncompressed cpio archive, which the kernel unpacks
//! into memory faster than it would read a compressed one here.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::package::Kernel;
use crate::command;

/// What runs first, and last.
const INIT: &str = include_str!("init.sh");

/// Programs of this machine that the tests call.
const HOST: [&str; 4] = ["ip", "tc", "setpriv", "busybox"];

/// Writes the archive to `image`.
pub fn write(image: &Path, kernel: &Kernel, programs: &[(String, PathBuf)]) -> Result<()> {
    let root = image.with_extension("tree");
    let _ = fs::remove_dir_all(&root);
    for folder in
        ["bin", "dev", "etc", "modules", "proc", "root", "run", "sys", "tests", "tmp", "var"]
    {
        fs::create_dir_all(root.join(folder))?;
    }
    let mut binaries = Vec::new();
    for name in HOST {
        let from = command::find(name).with_context(|| format!("there is no {name} here"))?;
        let to = root.join("bin").join(name);
        copy(&from, &to)?;
        binaries.push(to);
    }
    for (name, from) in programs {
        let to = root.join("tests").join(name);
        copy(from, &to)?;
        // Nine tenths of a test program are for debuggers.
        command::quiet(Command::new("strip").arg("--strip-debug").arg(&to))?;
        binaries.push(to);
    }
    for library in libraries(&binaries) {
        let to = root.join(library.strip_prefix("/").unwrap_or(&library));
        fs::create_dir_all(to.parent().context("a library has a folder")?)?;
        copy(&library, &to)?;
    }
    for module in fs::read_dir(&kernel.modules)? {
        let module = module?;
        copy(&module.path(), &root.join("modules").join(module.file_name()))?;
    }
    let names = programs.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "flow-agent");
    let names: Vec<&str> = names.collect();
    let init = root.join("init");
    fs::write(&init, INIT.replace("@PROGRAMS@", &names.join(" ")))?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    let pack = "find . | cpio --quiet -o -H newc";
    let archive = fs::File::create(image)?;
    command::run(Command::new("sh").args(["-c", pack]).current_dir(&root).stdout(archive))?;
    Ok(fs::remove_dir_all(&root)?)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

/// The shared libraries of the programs, and their loader. A program without any has none.
fn libraries(programs: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut libraries = BTreeSet::new();
    for program in programs {
        let Some(answer) = command::probe("ldd", &[&program.to_string_lossy()]) else { continue };
        let paths = answer.split_whitespace().filter(|word| word.starts_with('/'));
        libraries.extend(paths.filter(|path| Path::new(path).is_file()).map(PathBuf::from));
    }
    libraries
}
