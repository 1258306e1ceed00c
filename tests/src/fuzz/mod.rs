//! Fuzz targets: octets as a stranger could send or leave them enter; whatever they are, what is
//! said here must hold, and nothing panics.
//!
//! `cargo xtask fuzz` runs them with libFuzzer on instrumented code (`src/bin/flow-fuzz.rs`),
//! `tests/fuzz.rs` on every commit with the corpus in `tests/fuzz/` and what a seed bends of it.

mod answers;
mod block;
mod capture;
mod config;
mod folder;
mod mutate;
mod parser;
mod seeds;
mod spool;
mod state;
mod status;
mod store;

use std::path::PathBuf;

pub use mutate::mutated;

/// One thing to fuzz.
#[derive(Clone, Copy)]
pub struct Target {
    /// What it is called, and its folder in `tests/fuzz/`.
    pub name: &'static str,
    /// What reads the octets.
    pub about: &'static str,
    /// Reads them, and panics if something does not hold.
    pub run: fn(&[u8]),
    /// Whole, valid input to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// More octets than these say nothing new.
    pub most_octets: usize,
}

/// All of them.
pub const TARGETS: [Target; 9] = [
    Target {
        name: "parser",
        about: "a frame's headers, against the independent reference",
        run: parser::run,
        seeds: seeds::parser,
        most_octets: 512,
    },
    Target {
        name: "capture",
        about: "capture files, cut anywhere",
        run: capture::run,
        seeds: seeds::capture,
        most_octets: 2048,
    },
    Target {
        name: "spool",
        about: "the files of a spool, written by nobody or damaged",
        run: spool::run,
        seeds: seeds::spool,
        most_octets: 4096,
    },
    Target {
        name: "config",
        about: "the configuration file",
        run: config::run,
        seeds: seeds::config,
        most_octets: 2048,
    },
    Target {
        name: "status",
        about: "requests to the status",
        run: status::run,
        seeds: seeds::status,
        most_octets: 2048,
    },
    Target {
        name: "store",
        about: "requests to the embedded store",
        run: store::run,
        seeds: seeds::store,
        most_octets: 2048,
    },
    Target {
        name: "answers",
        about: "what a ClickHouse server answers",
        run: answers::run,
        seeds: seeds::answers,
        most_octets: 2048,
    },
    Target {
        name: "state",
        about: "the saved state",
        run: state::run,
        seeds: seeds::state,
        most_octets: 2048,
    },
    Target {
        name: "block",
        about: "the frozen Native blocks of spool and quarantine",
        run: block::run,
        seeds: seeds::block,
        most_octets: 4096,
    },
];

/// The target of this name.
pub fn find(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}

/// Where the corpus of a target is kept.
pub fn corpus_folder(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz")).join(name)
}

/// The corpus of a target with its seeds, in a fixed order.
///
/// # Errors
/// A file cannot be read.
pub fn corpus(target: Target) -> std::io::Result<Vec<Vec<u8>>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(corpus_folder(target.name))? {
        paths.push(entry?.path());
    }
    paths.sort();
    let mut inputs = (target.seeds)();
    for path in paths {
        inputs.push(std::fs::read(path)?);
    }
    Ok(inputs)
}

/// Takes one number off the front of an input; 0 when there is nothing left.
fn take(octets: &mut &[u8]) -> u8 {
    let Some((first, rest)) = octets.split_first() else { return 0 };
    *octets = rest;
    *first
}

/// The same with two octets.
fn take_u16(octets: &mut &[u8]) -> usize {
    usize::from(u16::from_le_bytes([take(octets), take(octets)]))
}

/// Runs what is asynchronous, on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("the system gives a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}
