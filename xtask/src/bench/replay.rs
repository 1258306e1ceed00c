//! The replay of a capture beside other programs that read one.
//!
//! Programs take turns, so that a machine whose speed drifts does so for all of them. The capture
//! is in the page cache.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Run;
use super::results::Figure;
use crate::{build, capture, command};

/// In arguments: the capture, how many of its packets are read where that can be said, and a folder
/// for what a run writes.
const FILE: &str = "FILE";
const PACKETS: &str = "PACKETS";
const OUT: &str = "OUT";

/// Source of the program that has libpcap read a file and does nothing else.
const PCAP_READ: &str = include_str!("pcap_read.c");

/// A program that reads captures.
struct Reader {
    /// What it is and does.
    name: &'static str,
    /// As its package has it; none for ours, which the machine's line tells.
    version: String,
    program: PathBuf,
    arguments: &'static [&'static str],
    /// The time is under this key of its output, not that of the process.
    says: Option<&'static str>,
    goal: Option<&'static str>,
    /// It takes so long that a run with one of so many packets must do; 1 for those that do all.
    one_in: u32,
    /// Wall time of each run, s.
    seconds: Vec<f64>,
}

/// Makes the capture if there is none, and measures.
pub fn measure(run: &Run<'_>) -> Result<Vec<Figure>> {
    let folder = build::target_dir().join("bench");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let packets = if run.quick { 100_000 } else { 5_000_000 };
    let capture = folder.join(format!("zipf-{packets}.pcap"));
    if !capture.exists() {
        let words = ["--packets", &packets.to_string(), "--output"];
        let mut words: Vec<_> = words.map(Into::into).to_vec();
        words.push(capture.clone().into());
        capture::make(run.tools, &words)?;
    }
    // Into the page cache.
    std::io::copy(&mut std::fs::File::open(&capture)?, &mut std::io::sink())?;
    let mut readers = readers(&run.agent, &folder)?;
    for turn in 0..run.runs {
        for reader in readers.iter_mut().filter(|reader| turn == 0 || reader.one_in == 1) {
            let took = reader.run(&capture, packets, &folder.join("run"))?;
            reader.seconds.push(took);
        }
    }
    Ok(readers.iter().map(|reader| reader.figure(packets)).collect())
}

impl Reader {
    /// One of ours.
    fn own(agent: &Path, name: &'static str, arguments: &'static [&'static str]) -> Self {
        Self {
            name,
            version: String::new(),
            program: agent.to_owned(),
            arguments,
            says: None,
            goal: None,
            one_in: 1,
            seconds: Vec::new(),
        }
    }

    /// One of a Debian package.
    fn peer(
        name: &'static str,
        package: &str,
        program: &Path,
        arguments: &'static [&'static str],
    ) -> Self {
        let query = ["--show", "--showformat=${Version}", package];
        let version = command::probe("dpkg-query", &query).unwrap_or_default();
        let version = format!(" ({package} {})", version.trim());
        Self { version, ..Self::own(program, name, arguments) }
    }

    /// One run, s; `folder` is made for it and removed.
    fn run(&self, capture: &Path, packets: u32, folder: &Path) -> Result<f64> {
        std::fs::create_dir_all(folder)?;
        let mut command = Command::new(&self.program);
        for argument in self.arguments {
            let argument = argument.replace(FILE, &capture.display().to_string());
            let argument = argument.replace(PACKETS, &(packets / self.one_in).to_string());
            command.arg(argument.replace(OUT, &folder.display().to_string()));
        }
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let shown = command::shown(&command);
        let started = Instant::now();
        let output = command.output().with_context(|| format!("cannot start {shown}"))?;
        let took = started.elapsed().as_secs_f64();
        if !output.status.success() {
            bail!("{shown} failed ({})", output.status);
        }
        std::fs::remove_dir_all(folder)?;
        let Some(key) = self.says else { return Ok(took) };
        let said: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{shown} said no JSON"))?;
        said[key].as_f64().with_context(|| format!("no {key} in what {shown} says"))
    }

    fn figure(&self, packets: u32) -> Figure {
        let program = self.program.file_name().unwrap_or_default().display();
        let command = format!("{program} {}", self.arguments.join(" "));
        let read = packets / self.one_in;
        let what = format!("{}{}, {read} packets", self.name, self.version);
        let figure = Figure::of_runs("replay", &what, "s", &self.seconds, &command);
        self.goal.map_or(figure.clone(), |goal| figure.with_goal(goal))
    }
}

/// All of them; `folder` takes what has to be built.
fn readers(agent: &Path, folder: &Path) -> Result<Vec<Reader>> {
    let flow_set = Reader {
        says: Some("flow_set_s"),
        goal: Some("at most libpcap's time, and the fastest peer's by 4.5"),
        ..Reader::own(
            agent,
            "flow-agent, to flow records in memory",
            &["bench", "replay", "--json", "--file", FILE],
        )
    };
    let lines = Reader::own(
        agent,
        "flow-agent, to a file of JSON lines",
        &["replay", "--output", "jsonl:OUT/flows.jsonl", FILE],
    );
    let store = Reader {
        goal: Some("less than the fastest peer takes to its file"),
        ..Reader::own(
            agent,
            "flow-agent, committed in the embedded ClickHouse",
            &["replay", "--output", "embedded:OUT/flows", FILE],
        )
    };
    let libpcap = Reader::peer("libpcap, only reading", "libpcap0.8", &pcap_read(folder)?, &[FILE]);
    let mut readers = vec![flow_set, lines, store, libpcap];
    let peers: [(_, _, _, &'static [&'static str]); 3] = [
        ("nfpcapd, to its file", "nfdump", "nfpcapd", &["-r", FILE, "-w", OUT]),
        (
            "softflowd, no export",
            "softflowd",
            "softflowd",
            &["-6", "-m", "1000000", "-c", "none", "-p", "OUT/pid", "-r", FILE],
        ),
        ("argus, to its file", "argus-server", "argus", &["-r", FILE, "-w", "OUT/argus"]),
    ];
    for (name, package, program, arguments) in peers {
        readers.push(Reader::peer(name, package, &found(program)?, arguments));
    }
    readers.push(Reader {
        // All of them took it more than ten minutes.
        one_in: 10,
        ..Reader::peer(
            "tshark, conversations",
            "tshark",
            &found("tshark")?,
            &["-q", "-n", "-c", PACKETS, "-z", "conv,tcp", "-z", "conv,udp", "-r", FILE],
        )
    });
    Ok(readers)
}

fn found(program: &str) -> Result<PathBuf> {
    command::find(program).with_context(|| format!("{program} is gone since setup found it"))
}

fn pcap_read(folder: &Path) -> Result<PathBuf> {
    let (source, program) = (folder.join("pcap_read.c"), folder.join("pcap_read"));
    std::fs::write(&source, PCAP_READ)?;
    let mut compile = Command::new("cc");
    compile.arg("-O2").arg("-o").arg(&program).arg(&source).arg("-lpcap");
    command::quiet(&mut compile)?;
    Ok(program)
}
