//! `bpf-linker`: turns the compiler's output into the BPF object. It must be
//! built against the LLVM of that compiler, so it is built here, once.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::report::{Step, found};
use super::toolchain::Compiler;
use crate::command;

const VERSION: &str = "0.13.0";
/// The LLVM versions that this bpf-linker can be built against, with the number
/// that its `llvm-sys` dependency puts into the name of its variable.
const LLVM: [(u32, &str); 3] = [(21, "211"), (22, "221"), (23, "231")];
const WHY: &str = "links the kernel programs";

/// Finds it in the cache, else builds it.
pub fn ensure(cache: &Path, compiler: &Compiler) -> Result<()> {
    let root = cache.join(format!("bpf-linker-{VERSION}"));
    let program = root.join("bin/bpf-linker");
    let llvm = compiler.llvm;
    let built_against = root.join("llvm");
    let is_of_compiler =
        fs::read_to_string(&built_against).is_ok_and(|text| text == llvm.to_string());
    // Running it also proves that the LLVM it was linked against is still there.
    let runs = || command::probe(&program, &["--version"]).is_some_and(|it| it.contains(VERSION));
    if is_of_compiler && runs() {
        found("bpf-linker", WHY, format!("{VERSION} {}", program.display()));
        return Ok(());
    }
    let Some((_, number)) = LLVM.iter().find(|(major, _)| *major == llvm) else {
        bail!(
            "bpf-linker {VERSION} cannot be built against LLVM {llvm}, which the compiler of the \
             kernel programs uses: install a compiler with LLVM 21, 22 or 23"
        );
    };
    let prefix = format!("/usr/lib/llvm-{llvm}");
    let step = Step::begin("bpf-linker", WHY, format!("building {VERSION}, one to three minutes"));
    // Built anew even if cargo's record says that it is installed: it did not run.
    let mut cargo = command::cargo();
    cargo
        .args(["install", "bpf-linker", "--version", VERSION, "--locked", "--force", "--root"])
        .arg(&root)
        .args(["--no-default-features", "--features", &format!("llvm-{llvm}")])
        // llvm-sys reads the one, bpf-linker's own build script the other.
        .env(format!("LLVM_SYS_{number}_PREFIX"), &prefix)
        .env("LLVM_PREFIX", &prefix)
        .env_remove("CARGO_TARGET_DIR")
        // Away from the workspace: its toolchain file and settings are not for this.
        .current_dir(cache);
    command::quiet(&mut cargo).context("bpf-linker cannot be built")?;
    if !runs() {
        bail!(
            "{} was built but does not run: try `{} --version`",
            program.display(),
            program.display()
        );
    }
    fs::write(&built_against, llvm.to_string())
        .with_context(|| format!("{} cannot be written", built_against.display()))?;
    step.done(program.display());
    Ok(())
}
