//! `cargo xtask test --kernels`: the oldest and the newest kernel that Debian packages, booted in
//! qemu without KVM, each with the tests of the kernel side.
//!
//! Enters: the packages that apt knows, the agent and test programs of this workspace. Leaves: a
//! table on standard output and the console of each kernel in `target/kernels`. It must hold that
//! nothing is installed on this machine but what `setup` names: kernels are unpacked, not installed.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::setup::{self, For, Tools};
use crate::{build, cache, command};

mod initramfs;
mod machine;
mod package;

use machine::{Machine, Outcome};
use package::Package;

/// What can run in each kernel, in this order: each builds on the ones before.
const PROGRAMS: [(&str, &str); 2] = [
    ("kernel", "programs load, each hook meters, drains under load lose nothing"),
    ("drain", "native XDP and TC, flow by flow, under traffic"),
];

/// Boots each kernel and runs the programs in it.
pub fn run(filter: Option<&str>) -> Result<ExitCode> {
    if !command::is_root() {
        bail!("the tests need root: `sudo -E env PATH=\"$PATH\" cargo xtask test --kernels`");
    }
    let tools = setup::run(For::Kernels)?;
    let filter = filter.unwrap_or_default();
    let chosen: Vec<_> = PROGRAMS.iter().filter(|(name, _)| name.contains(filter)).collect();
    if chosen.is_empty() {
        bail!("no test program for kernels has '{filter}' in its name: {PROGRAMS:?}");
    }
    let names: Vec<&str> = chosen.iter().map(|(name, _)| *name).collect();
    let programs = programs(&tools, &names)?;
    let packages = Package::oldest_and_newest()?;
    let cache = cache::dir()?.join("kernels");
    let logs = build::target_dir().join("kernels");
    fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    let (mut lines, mut good) = (Vec::new(), true);
    for package in packages {
        let kernel = package.unpack(&cache)?;
        println!("booting {} in qemu, without KVM", kernel.release);
        let image = logs.join("initramfs");
        initramfs::write(&image, &kernel, &programs)?;
        let begin = Instant::now();
        let log = logs.join(format!("{}.log", kernel.release));
        let outcomes = Machine { kernel: &kernel.image, initramfs: &image, log: &log }.run()?;
        let _ = fs::remove_file(&image);
        let took = begin.elapsed();
        println!("{}: {:.0} s, console in {}", kernel.release, took.as_secs_f64(), log.display());
        for (program, about) in &chosen {
            let outcome = outcomes.iter().find(|outcome| outcome.program == *program);
            good &= outcome.is_some_and(Outcome::is_good);
            lines.push(line(&kernel.release, program, about, outcome));
        }
    }
    println!("\n{:<28} {:<11} {:<26} {:>7}  what", "kernel", "ran", "result", "time");
    for line in lines {
        println!("{line}");
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line(release: &str, program: &str, about: &str, outcome: Option<&Outcome>) -> String {
    let (result, took) = match outcome {
        None => ("FAILED, did not run".to_owned(), Duration::ZERO),
        Some(outcome) => (outcome.to_string(), outcome.took),
    };
    format!("{release:<28} {program:<11} {result:<26} {:>5.0} s  {about}", took.as_secs_f64())
}

/// Builds the agent and the test programs; each with the name that it gets in the machine.
fn programs(tools: &Tools, names: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    let mut cargo = command::cargo();
    cargo.args(["build", "--package", "flow-agent"]);
    command::run(tools.apply(&mut cargo))?;
    let mut cargo = command::cargo();
    cargo.args(["test", "--package", "flow-tests", "--no-run", "--message-format=json"]);
    cargo.args(names.iter().flat_map(|name| ["--test", name]));
    let messages = command::quiet(tools.apply(&mut cargo))?;
    let mut programs =
        vec![("flow-agent".to_owned(), build::target_dir().join("debug/flow-agent"))];
    for message in messages.lines() {
        let message: serde_json::Value = serde_json::from_str(message)?;
        let name = message["target"]["name"].as_str();
        if let (Some(name), Some(path)) = (name, message["executable"].as_str())
            && names.contains(&name)
        {
            programs.push((name.to_owned(), PathBuf::from(path)));
        }
    }
    if programs.len() != names.len() + 1 {
        bail!("cargo built {programs:?}, not all of {names:?}");
    }
    Ok(programs)
}
