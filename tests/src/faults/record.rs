//! A record of a fault that was injected, and of what came of it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::catalogue::CATALOGUE;
use super::outcome::Outcome;

/// What a test leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The fault's name in the catalogue.
    pub name: String,
    /// How it is known that it happened.
    pub proof: String,
    /// What came of it.
    pub outcome: Outcome,
    /// When.
    pub date: String,
    /// The running kernel's release.
    pub kernel: String,
}

/// The folder of the records: `target/faults`, or what `FLOW_FAULTS_DIR` says.
pub fn folder() -> PathBuf {
    let here = || Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target").join("faults");
    std::env::var_os("FLOW_FAULTS_DIR").map_or_else(here, PathBuf::from)
}

/// Writes that a fault happened, for which there is proof, and what came of it.
pub fn record(name: &str, proof: &str, outcome: Outcome) -> Result<()> {
    ensure!(CATALOGUE.iter().any(|named| named.name == name), "{name} is not in the catalogue");
    ensure!(!proof.trim().is_empty(), "{name}: nothing proves that it happened");
    println!("fault {name}: {proof}; {outcome:?}");
    let record = Record {
        name: name.to_owned(),
        proof: proof.to_owned(),
        outcome,
        date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
    };
    let folder = folder();
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{name}.json"));
    std::fs::write(&path, serde_json::to_vec_pretty(&record)?)
        .with_context(|| path.display().to_string())
}
