//! Agents that die at a failpoint: the crate's feature `failpoints`, driven from outside.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Result, bail};
use tempfile::TempDir;

use crate::bin_path::flow_agent;
use crate::tally::Count;

/// What agents that are to die share: whether they are to, and what they held.
pub struct Mortal(TempDir);

impl Mortal {
    /// None is to die yet.
    pub fn new() -> Result<Self> {
        Ok(Self(TempDir::with_prefix("flow-mortal-")?))
    }

    /// An agent that dies at this failpoint once [`Mortal::arm`] was called.
    pub fn binary(&self, failpoint: &str) -> Result<PathBuf> {
        let path = self.0.path().join(failpoint.replace(':', "-"));
        let script = format!(
            "#!/bin/sh\nexport FLOW_FAILPOINT={failpoint} FLOW_FAILPOINT_FOLDER={}\nexec {} \"$@\"\n",
            self.0.path().display(),
            flow_agent().display()
        );
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    /// From now on they die.
    pub fn arm(&self) -> Result<()> {
        Ok(fs::write(self.0.path().join("armed"), "")?)
    }

    /// What the one that died held at an interface.
    pub fn held(&self, interface: &str) -> Result<Count> {
        let text = fs::read_to_string(self.0.path().join("held"))?;
        let line = text.lines().find(|line| line.contains(interface));
        let Some(line) = line else { return Ok(Count::default()) };
        let [_, packets, octets] = line.split(' ').collect::<Vec<_>>()[..] else { bail!("{text}") };
        Ok(Count { packets: packets.parse()?, octets: octets.parse()? })
    }

    /// From now on they live.
    pub fn disarm(&self) {
        for name in ["armed", "held"] {
            drop(fs::remove_file(self.0.path().join(name)));
        }
    }
}
