//! `cargo xtask bench-replay`: this agent beside other programs that read a capture.
//!
//! Enters: a capture. Leaves: for each program that this machine has, its version, its command and
//! how long each run took. Programs take turns, so that a machine whose speed drifts does so for
//! all of them; the capture is in the page cache.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::setup::For;
use crate::{build, command};

/// Arguments of `cargo xtask bench-replay`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A capture [default: one of 5,000,000 packets, made by `cargo xtask capture` in target/bench]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Runs of each program
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// A program that reads captures, and how long it took.
pub struct Reader {
    /// What it is and does.
    pub name: &'static str,
    /// As it says itself.
    pub version: String,
    /// As a person would type it.
    pub command: String,
    /// Wall time of each run, s.
    pub seconds: Vec<f64>,
    make: Box<dyn Fn(&Path) -> Command>,
    /// The time is in its output, not that of the process.
    says: Option<&'static str>,
}

impl Reader {
    fn new(name: &'static str, version: String, make: impl Fn(&Path) -> Command + 'static) -> Self {
        let make = Box::new(make);
        Self { name, version, command: String::new(), seconds: Vec::new(), make, says: None }
    }

    /// The middle of its runs, s.
    pub fn median_s(&self) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// One run, with a folder of its own for what it writes.
    fn run(&mut self, folder: &Path) -> Result<()> {
        let folder = folder.join("run");
        std::fs::create_dir_all(&folder)?;
        let mut command = (self.make)(&folder);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        self.command = command::shown(&command);
        let started = Instant::now();
        let output = command.output().with_context(|| format!("cannot start {}", self.command))?;
        let took = started.elapsed().as_secs_f64();
        if !output.status.success() {
            bail!("{} failed ({})", self.command, output.status);
        }
        self.seconds.push(match self.says {
            None => took,
            Some(key) => serde_json::from_slice::<serde_json::Value>(&output.stdout)?[key]
                .as_f64()
                .with_context(|| format!("no {key} in what {} says", self.command))?,
        });
        std::fs::remove_dir_all(&folder)?;
        Ok(())
    }
}

/// Runs each program `runs` times in turns; `folder` takes what they write.
///
/// # Errors
/// One of them fails.
pub fn measure(agent: &Path, capture: &Path, folder: &Path, runs: u32) -> Result<Vec<Reader>> {
    let mut readers = readers(agent, capture, folder)?;
    // Into the page cache.
    std::io::copy(&mut std::fs::File::open(capture)?, &mut std::io::sink())?;
    for _ in 0..runs {
        for reader in &mut readers {
            reader.run(folder)?;
        }
    }
    Ok(readers)
}

/// The programs that are there.
fn readers(agent: &Path, capture: &Path, folder: &Path) -> Result<Vec<Reader>> {
    let mut readers = Vec::new();
    let version = |program: &str, arguments: &[&str]| {
        let first = |text: String| text.lines().next().unwrap_or_default().trim().to_owned();
        command::probe(program, arguments).map_or_else(String::new, first)
    };
    let package = |name: &str| {
        let version = version("dpkg-query", &["--show", "--showformat=${Version}", name]);
        format!("{name} {version}").trim().to_owned()
    };
    let of = |program: &Path, arguments: &'static [&'static str], capture: &Path| {
        let (program, capture) = (program.to_owned(), capture.to_owned());
        move |folder: &Path| {
            let mut command = Command::new(&program);
            for argument in arguments {
                command.arg(
                    argument
                        .replace("FILE", &capture.display().to_string())
                        .replace("OUT", &folder.display().to_string()),
                );
            }
            command
        }
    };
    let own = version(&agent.display().to_string(), &["--version"]);
    let flows: &[&str] = &["bench", "replay", "--json", "--file", "FILE"];
    let mut flow_set =
        Reader::new("flow-agent, to its flow records", own.clone(), of(agent, flows, capture));
    flow_set.says = Some("flow_set_s");
    readers.push(flow_set);
    let lines: &[&str] = &["replay", "--output", "jsonl:OUT/flows.jsonl", "FILE"];
    readers.push(Reader::new("flow-agent, JSON lines", own.clone(), of(agent, lines, capture)));
    let store: &[&str] = &["replay", "--output", "embedded:OUT/flows", "FILE"];
    readers.push(Reader::new("flow-agent, into ClickHouse", own, of(agent, store, capture)));
    if Path::new("/usr/include/pcap/pcap.h").exists() {
        let (source, program) = (folder.join("pcap_read.c"), folder.join("pcap_read"));
        std::fs::write(&source, include_str!("pcap_read.c"))?;
        let mut compile = Command::new("cc");
        compile.arg("-O2").arg("-o").arg(&program).arg(&source).arg("-lpcap");
        command::quiet(&mut compile)?;
        let read = of(&program, &["FILE"], capture);
        readers.push(Reader::new("libpcap, reading only", package("libpcap0.8"), read));
    } else {
        missing("libpcap-dev");
    }
    let peers: [(&'static str, &str, &str, &'static [&'static str]); 3] = [
        ("nfpcapd, to its file", "nfpcapd", "nfdump", &["-r", "FILE", "-w", "OUT"]),
        (
            "softflowd, no export",
            "softflowd",
            "softflowd",
            &["-6", "-m", "1000000", "-c", "none", "-p", "OUT/pid", "-r", "FILE"],
        ),
        ("argus, to its file", "argus", "argus-server", &["-r", "FILE", "-w", "OUT/argus"]),
    ];
    for (name, program, debian, arguments) in peers {
        match command::find(program) {
            Some(path) => {
                readers.push(Reader::new(name, package(debian), of(&path, arguments, capture)))
            }
            None => missing(debian),
        }
    }
    Ok(readers)
}

fn missing(package: &str) {
    eprintln!("left out: {package} is not installed (apt-get install {package})");
}

/// Makes the capture if there is none, measures, and prints.
///
/// # Errors
/// The build or a program fails.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let built = build::run(For::Build)?;
    let folder = build::target_dir().join("bench");
    std::fs::create_dir_all(&folder)?;
    let capture = match &arguments.file {
        Some(file) => file.clone(),
        None => {
            let file = folder.join("zipf.pcap");
            if !file.exists() {
                crate::capture::run(&["--output".into(), file.clone().into()])?;
            }
            file
        }
    };
    let readers = measure(&built.agent, &capture, &folder, arguments.runs)?;
    for reader in &readers {
        if arguments.json {
            let (name, version) = (reader.name, &reader.version);
            println!(
                "{}",
                serde_json::json!({
                    "reader": name, "version": version, "command": reader.command,
                    "median_s": reader.median_s(), "runs_s": reader.seconds,
                })
            );
        } else {
            let most = reader.seconds.iter().copied().fold(0.0, f64::max);
            println!(
                "{:<32} {:>7.3} s (at most {most:.3})  {}: {}",
                reader.name,
                reader.median_s(),
                reader.version,
                reader.command
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}
