//! What is installed: paths, modes and contents, in the order of the paths.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::archive;
use crate::command;

/// A file to install.
pub struct Entry {
    /// Permissions.
    pub mode: u32,
    /// What is in it.
    pub content: Vec<u8>,
}

/// Files by their path, without the leading slash.
pub struct Tree(pub BTreeMap<String, Entry>);

/// Files of the workspace that are installed as they are.
const COPIED: [(&str, &str); 12] = [
    ("deploy/systemd/flow-agent.service", "usr/lib/systemd/system/flow-agent.service"),
    ("deploy/systemd/flow-agent-store.service", "usr/lib/systemd/system/flow-agent-store.service"),
    ("deploy/sysusers.d/flow-agent.conf", "usr/lib/sysusers.d/flow-agent.conf"),
    ("deploy/tmpfiles.d/flow-agent.conf", "usr/lib/tmpfiles.d/flow-agent.conf"),
    (CONFIG.0, CONFIG.1),
    ("docs/configuration.md", "usr/share/doc/flow-agent/configuration.md"),
    ("docs/install.md", "usr/share/doc/flow-agent/install.md"),
    ("CHANGELOG.md", "usr/share/doc/flow-agent/changelog.md"),
    ("LICENSE-APACHE", "usr/share/doc/flow-agent/LICENSE-APACHE"),
    ("LICENSE-MIT", "usr/share/doc/flow-agent/LICENSE-MIT"),
    ("LICENSE-GPL-2.0", "usr/share/doc/flow-agent/LICENSE-GPL-2.0"),
    ("deploy/debian/copyright", "usr/share/doc/flow-agent/copyright"),
];

/// The one file that administrators change.
pub const CONFIG: (&str, &str) =
    ("deploy/config/flow-agent.toml", "etc/flow-agent/flow-agent.toml");

/// Folders of examples.
const EXAMPLES: [&str; 2] = ["deploy/systemd/examples", "deploy/ansible"];

impl Tree {
    /// Everything, with pages and completions that this binary writes to `pages`.
    pub fn new(agent: &Path, bill: &[u8], pages: &Path) -> Result<Self> {
        let mut tree = Self(BTreeMap::new());
        tree.add("usr/bin/flow-agent", 0o755, read(agent)?);
        for (from, to) in COPIED {
            tree.add(to, 0o644, read(&command::workspace().join(from))?);
        }
        for folder in EXAMPLES {
            let name = folder.trim_start_matches("deploy/").replace("systemd/examples", "systemd");
            let to = format!("usr/share/doc/flow-agent/examples/{name}");
            tree.folder(&command::workspace().join(folder), &to)?;
        }
        tree.add("usr/share/doc/flow-agent/sbom.cdx.json", 0o644, bill.to_vec());
        // The binary writes each page anew; no other version's is left among them.
        if pages.exists() {
            fs::remove_dir_all(pages)?;
        }
        command::quiet(Command::new(agent).arg("generate").arg(pages))?;
        for (from, to) in [
            ("man", "usr/share/man/man1"),
            ("bash", "usr/share/bash-completion/completions"),
            ("zsh", "usr/share/zsh/vendor-completions"),
            ("fish", "usr/share/fish/vendor_completions.d"),
        ] {
            tree.folder(&pages.join(from), to)?;
        }
        Ok(tree)
    }

    fn add(&mut self, path: &str, mode: u32, content: Vec<u8>) {
        self.0.insert(path.to_owned(), Entry { mode, content });
    }

    fn folder(&mut self, from: &Path, to: &str) -> Result<()> {
        let list = fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))?;
        for entry in list {
            let entry = entry?;
            let to = format!("{to}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                self.folder(&entry.path(), &to)?;
            } else {
                self.add(&to, 0o644, read(&entry.path())?);
            }
        }
        Ok(())
    }

    /// Everything below a folder with the version in its name.
    pub fn tarball(&self, version: &str) -> Result<Vec<u8>> {
        archive::tar_gz(&format!("flow-agent-{version}/"), &self.0)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
