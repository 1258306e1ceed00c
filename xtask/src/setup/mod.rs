//! `cargo xtask setup`: finds or installs what the build and the tests need.
//!
//! Debian packages first, then the eBPF compiler, `bpf-linker`, the BPF file system, `libchdb` and
//! (for the tests) a Python with `clickhouse-connect` and `openapi-spec-validator`, and axe-core.
//! Each step says what it is for; a step whose result is already there costs milliseconds.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use crate::cache;

mod axe_core;
mod bpf_fs;
mod bpf_linker;
mod debian;
mod integrity;
mod libchdb;
mod packages;
mod python;
mod report;
mod toolchain;

/// What the machine is being set up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// Building and running the agent.
    Build,
    /// Also measuring TCP throughput.
    Measure,
    /// Also measuring everything, beside other programs.
    Bench,
    /// Also running its tests.
    Test,
    /// Also booting other kernels.
    Kernels,
}

impl For {
    fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Measure => "measurement",
            Self::Bench => "measurements",
            Self::Test => "tests",
            Self::Kernels => "tests on other kernels",
        }
    }
}

/// What setup found or installed.
pub struct Tools {
    /// The major version of LLVM that compiles the kernel programs.
    pub bpf_llvm: u32,
    /// `libchdb.so`, the embedded ClickHouse engine.
    libchdb: PathBuf,
    /// The Python that has `clickhouse-connect`; only for the tests.
    python: Option<PathBuf>,
    /// The script of axe-core; only for the tests.
    axe: Option<PathBuf>,
}

impl Tools {
    /// Tells a program that is about to run where these tools are.
    pub fn apply<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("FLOW_LIBCHDB", &self.libchdb);
        if let Some(python) = &self.python {
            command.env("FLOW_PYTHON", python);
        }
        if let Some(axe) = &self.axe {
            command.env("FLOW_AXE", axe);
        }
        command
    }
}

/// Finds or installs everything, in order; the first failure ends it and says what to do.
pub fn run(purpose: For) -> Result<Tools> {
    let started = Instant::now();
    let cache = cache::dir()?;
    let _held = cache::lock(&cache)?;
    println!("setup: what the {} needs", purpose.name());

    let route = toolchain::choose();
    debian::install(&packages::missing(purpose, route))?;
    let compiler = toolchain::ensure(route)?;
    bpf_linker::ensure(&cache, &compiler)?;
    bpf_fs::ensure()?;
    let libchdb = libchdb::ensure(&cache)?;
    let python = match purpose {
        For::Test => Some(python::ensure(&cache)?),
        For::Build | For::Measure | For::Bench | For::Kernels => None,
    };
    let axe = (purpose == For::Test).then(|| axe_core::ensure(&cache)).transpose()?;
    println!("setup done in {:.1} s\n", started.elapsed().as_secs_f64());
    Ok(Tools { bpf_llvm: compiler.llvm, libchdb, python, axe })
}
