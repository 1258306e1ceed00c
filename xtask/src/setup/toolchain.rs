//! The compiler of the kernel programs: Debian's `rustc-web` with a prebuilt `core` for the BPF
//! target, else a rustup nightly with `rust-src`.
//!
//! The build script of flow-agent looks for the same two, in the same order. Debian's comes first
//! because the LLVM that `bpf-linker` is built against comes from there, too: that of a nightly is
//! often newer than any that is packaged.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::report::{Step, found};
use super::{debian, packages};
use crate::command;

/// The Debian package that holds `core` for the BPF target.
pub const LIBSTD_BPF: &str = "libstd-rust-web-dev-bpf";
/// Debian's compiler, by its full path: rustup's comes first in PATH.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// Where Debian's compiler has the libraries of the BPF target.
const DEBIAN_BPF_LIBRARIES: &str = "/usr/lib/rustlib/bpfel-unknown-none/lib";
/// The LLVM of Debian's rustc-web, until that is installed and can be asked.
const DEBIAN_LLVM: u32 = 22;
const WHY: &str = "compiles the kernel programs";

/// Where the compiler comes from.
#[derive(Debug, Clone, Copy)]
pub enum Route {
    /// A rustup nightly; `rust_src` says whether it can build `core`.
    Nightly {
        /// `rust-src` is there.
        rust_src: bool,
    },
    /// Debian's compiler; `bpf_core` says whether it and its BPF `core` are there.
    Debian {
        /// Compiler and `core` are there.
        bpf_core: bool,
    },
}

/// The compiler that will be used.
pub struct Compiler {
    /// Its LLVM's major version: `bpf-linker` must use the same.
    pub llvm: u32,
}

impl Route {
    /// The LLVM major version of this route's compiler.
    pub fn llvm(self) -> u32 {
        let version = match self {
            Self::Nightly { .. } => command::probe("rustc", &["+nightly", "-vV"]),
            Self::Debian { .. } => command::probe(DEBIAN_RUSTC, &["-vV"]),
        };
        version.as_deref().and_then(llvm_major).unwrap_or(DEBIAN_LLVM)
    }
}

/// The route that is usable as it is, else the one that can be installed.
pub fn choose() -> Route {
    if debian_is_usable() {
        return Route::Debian { bpf_core: true };
    }
    let nightly = Route::Nightly { rust_src: nightly_has_source() };
    let is_ready =
        matches!(nightly, Route::Nightly { rust_src: true }) && packages::has_llvm(nightly.llvm());
    if is_ready || (command::find("rustup").is_some() && !debian::available(LIBSTD_BPF)) {
        return nightly;
    }
    Route::Debian { bpf_core: false }
}

/// Makes sure that the route's compiler works; Debian's packages are installed by now.
pub fn ensure(route: Route) -> Result<Compiler> {
    match route {
        Route::Nightly { rust_src: true } => {}
        Route::Nightly { rust_src: false } => install_nightly()?,
        Route::Debian { .. } if debian_is_usable() => {}
        Route::Debian { .. } => bail!(
            "{DEBIAN_RUSTC} and {DEBIAN_BPF_LIBRARIES} do not work together although their \
             packages are installed: reinstall them with \
             `apt-get install --reinstall rustc-web {LIBSTD_BPF}`"
        ),
    }
    let (name, version) = match route {
        Route::Nightly { .. } => ("nightly", command::probe("rustc", &["+nightly", "-vV"])),
        Route::Debian { .. } => ("Debian", command::probe(DEBIAN_RUSTC, &["-vV"])),
    };
    let version = version.context("the compiler just found does not run")?;
    let llvm = llvm_major(&version).context("`rustc -vV` names no LLVM version")?;
    let release = version.lines().next().unwrap_or_default();
    let release = release.split(" (").next().unwrap_or_default();
    found("eBPF compiler", WHY, format!("{name} {release}, LLVM {llvm}"));
    Ok(Compiler { llvm })
}

fn install_nightly() -> Result<()> {
    let step = Step::begin("eBPF compiler", WHY, "rustup nightly with rust-src");
    command::quiet(Command::new("rustup").args([
        "toolchain",
        "install",
        "nightly",
        "--profile",
        "minimal",
        "--component",
        "rust-src",
    ]))
    .context(
        "no compiler for the kernel programs: apt-get knows no libstd-rust-web-dev-bpf and \
         rustup cannot install a nightly with rust-src; install either of them by hand",
    )?;
    step.done("installed");
    Ok(())
}

fn nightly_has_source() -> bool {
    command::probe("rustc", &["+nightly", "--print", "sysroot"])
        .map(|sysroot| PathBuf::from(sysroot.trim()))
        .is_some_and(|root| root.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file())
}

fn debian_is_usable() -> bool {
    let has_core = Path::new(DEBIAN_BPF_LIBRARIES).read_dir().is_ok_and(|mut files| {
        files.any(|file| {
            file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
        })
    });
    has_core && command::probe(DEBIAN_RUSTC, &["--version"]).is_some()
}

fn llvm_major(version: &str) -> Option<u32> {
    let line = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::llvm_major;

    #[test]
    fn the_llvm_version_is_read_from_rustc() {
        let version =
            "rustc 1.96.0 (ac68faa20 2026-05-25)\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(llvm_major(version), Some(22));
        assert_eq!(llvm_major("rustc 1.96.0"), None);
    }
}
