//! `cargo xtask fuzz`: the fuzz targets of `flow_tests::fuzz`, guided by coverage, for as long as
//! is asked; on the stable compiler.
//!
//! The workspace's own crates are compiled once more with LLVM's coverage counters, by way of
//! `RUSTC_WORKSPACE_WRAPPER`: this program is the wrapper. Dependencies stay as they are.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::setup::{self, For};
use crate::{build, command};

/// Set for the compiler that is wrapped.
const WRAPPER: &str = "FLOW_FUZZ_COVERAGE";
/// What libFuzzer is guided by. Overflows and debug assertions are findings, too.
const COVERAGE: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Copt-level=2",
    "-Cdebug-assertions=on",
];
/// What a corpus in the repository may have.
const MOST_KEPT: u64 = 24 << 10;
const TARGETS: [&str; 9] =
    ["parser", "capture", "spool", "config", "status", "store", "answers", "state", "block"];

/// What is asked.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Fuzz only this target; all of them, one after the other, without it
    #[arg(value_parser = TARGETS)]
    target: Option<String>,
    /// How long each is fuzzed
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Run this input alone, to see what it does
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
    /// Put the smallest inputs that were new into the corpus in tests/fuzz
    #[arg(long)]
    keep: bool,
    /// Only build, and print where the program is
    #[arg(long)]
    build_only: bool,
}

/// If this process stands for the compiler, becomes it.
pub fn as_compiler() -> Option<ExitCode> {
    std::env::var_os(WRAPPER)?;
    let mut words = std::env::args_os().skip(1);
    let compiler = words.next()?;
    let words: Vec<OsString> = words.collect();
    let mut rustc = Command::new(compiler);
    rustc.args(&words);
    let has = |text: &str| words.iter().any(|word| word.to_str().is_some_and(|w| w.contains(text)));
    // What runs while building counts nothing, and cargo asks the compiler about itself.
    if has("--crate-name") && !has("build_script") && !has("proc-macro") && !has("xtask") {
        rustc.args(COVERAGE);
    }
    let code = rustc.status().ok().and_then(|status| status.code()).unwrap_or(1);
    Some(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// Builds, and fuzzes.
pub fn run(options: &Options) -> Result<ExitCode> {
    let tools = setup::run(For::Build)?;
    println!("building flow-fuzz with coverage");
    let mut cargo = command::cargo();
    cargo.args(["build", "--package", "flow-tests", "--bin", "flow-fuzz"]);
    cargo.args(["--features", "libfuzzer"]);
    cargo.env("RUSTC_WORKSPACE_WRAPPER", std::env::current_exe()?).env(WRAPPER, "1");
    command::run(tools.apply(&mut cargo))?;
    let program = build::target_dir().join("debug/flow-fuzz");
    if options.build_only {
        println!("{}", program.display());
        return Ok(ExitCode::SUCCESS);
    }
    let targets = match &options.target {
        Some(target) => vec![target.as_str()],
        None => TARGETS.to_vec(),
    };
    let mut failed = Vec::new();
    for target in targets {
        let fuzz = Fuzz::new(&program, target)?;
        if let Some(input) = &options.input {
            command::run(fuzz.command().arg(input))?;
            continue;
        }
        if !fuzz.search(options.minutes)? {
            failed.push(target);
        }
        if options.keep {
            fuzz.keep()?;
        }
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    bail!(
        "{} failed: the inputs are in {}; `cargo xtask fuzz TARGET --input FILE` runs one again, \
         and once it is mended it belongs into tests/fuzz/TARGET",
        failed.join(", "),
        folder().display()
    )
}

/// Where runs keep what they find.
fn folder() -> PathBuf {
    build::target_dir().join("fuzz")
}

/// One target.
struct Fuzz<'a> {
    program: &'a Path,
    target: &'a str,
    /// What runs have found so far.
    found: PathBuf,
    /// In the repository.
    corpus: PathBuf,
}

impl<'a> Fuzz<'a> {
    fn new(program: &'a Path, target: &'a str) -> Result<Self> {
        let found = folder().join(target);
        let corpus = command::workspace().join("tests/fuzz").join(target);
        for folder in [&found, &corpus] {
            fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
        }
        Ok(Self { program, target, found, corpus })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command.env("FLOW_FUZZ_TARGET", self.target).env("FLOW_FUZZ_SEEDS", &self.found);
        command
    }

    /// True if nothing was found.
    fn search(&self, minutes: f64) -> Result<bool> {
        println!("== fuzzing {} for {minutes} minutes", self.target);
        let mut command = self.command();
        command
            .arg(format!("-max_total_time={}", (minutes * 60.0).max(1.0) as u64))
            .args(["-max_len=4096", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"])
            .arg(format!("-artifact_prefix={}/crash-{}-", folder().display(), self.target))
            .args([&self.found, &self.corpus]);
        let status = command.status().with_context(|| self.program.display().to_string())?;
        Ok(status.success())
    }

    /// The smallest inputs that together reach what all reach, as many as may be kept.
    fn keep(&self) -> Result<()> {
        let merged = folder().join(format!("{}-merged", self.target));
        let _ = fs::remove_dir_all(&merged);
        fs::create_dir_all(&merged)?;
        let mut command = Command::new(self.program);
        command.env("FLOW_FUZZ_TARGET", self.target);
        command.arg("-merge=1").args([&merged, &self.corpus, &self.found]);
        command::quiet(&mut command)?;
        let mut files = Vec::new();
        for entry in fs::read_dir(&merged)? {
            let entry = entry?;
            files.push((entry.metadata()?.len(), entry.file_name()));
        }
        files.sort();
        for old in fs::read_dir(&self.corpus)? {
            fs::remove_file(old?.path())?;
        }
        let (mut octets, mut kept) = (0, 0);
        for (length, name) in files.iter().take_while(|(length, _)| {
            octets += length;
            octets <= MOST_KEPT
        }) {
            let _ = length;
            fs::copy(merged.join(name), self.corpus.join(name))?;
            kept += 1;
        }
        println!("== {}: kept {kept} of {} inputs", self.target, files.len());
        Ok(())
    }
}
