//! `flow-capture`: makes the capture that readers are measured with; `cargo xtask capture` runs it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use flow_benches::capture::{Plan, write};

/// Makes a pcap file of flows drawn by Zipf's law (exponent 1.1), IPv4 and IPv6, TCP and UDP,
/// frames of 64 to 1,500 octets; the same arguments give the same octets.
#[derive(Debug, Parser)]
#[command(name = "flow-capture")]
struct Arguments {
    /// The file to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Packets
    #[arg(long, default_value_t = 5_000_000)]
    packets: usize,
    /// Five-tuples, of which the rarest may get no packet
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..))]
    flows: u32,
    /// Another seed, another capture
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Octets of a frame that are kept; 1500 for whole frames
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(14..=65_535))]
    snaplen: u32,
}

fn main() -> ExitCode {
    let Arguments { output, packets, flows, seed, snaplen } = Arguments::parse();
    let plan = Plan { packets, flows, seed, snaplen: snaplen as usize };
    let made = File::create(&output).and_then(|file| {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        write(&plan, &mut out)?;
        out.flush()
    });
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(
                io::stderr(),
                "flow-capture: {} cannot be written: {error}; choose another file",
                output.display()
            );
            ExitCode::FAILURE
        }
    }
}
