//! The Debian package: an `ar` archive of a version, a control archive and the files (deb(5)).

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use ar::{Builder, Header};

use super::archive;
use super::tree::{CONFIG, Entry, Tree};
use crate::command;

/// This machine's, as Debian names it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The package of these files.
pub fn package(tree: &Tree, version: &str) -> Result<Vec<u8>> {
    let control = archive::tar_gz("./", &control(tree, version)?)?;
    let data = archive::tar_gz("./", &tree.0)?;
    let mut package = Builder::new(Vec::new());
    for (name, content) in
        [("debian-binary", &b"2.0\n"[..]), ("control.tar.gz", &control), ("data.tar.gz", &data)]
    {
        let mut header = Header::new(name.into(), content.len() as u64);
        header.set_mode(0o100_644);
        header.set_mtime(archive::date()?);
        package.append(&header, content)?;
    }
    Ok(package.into_inner()?)
}

fn control(tree: &Tree, version: &str) -> Result<BTreeMap<String, Entry>> {
    let octets: usize = tree.0.values().map(|entry| entry.content.len()).sum();
    let text = format!(
        "Package: flow-agent\n\
         Version: {version}\n\
         Architecture: {}\n\
         Maintainer: The flow-agent founders <root@localhost>\n\
         Installed-Size: {}\n\
         Depends: libc6 (>= 2.34), libgcc-s1, passwd\n\
         Recommends: systemd\n\
         Section: net\n\
         Priority: optional\n\
         Description: network flow agent that accounts for every packet\n \
         Meters packets in the kernel by eBPF and stores flow records in ClickHouse.\n",
        architecture(),
        octets.div_ceil(1024)
    );
    let mut entries = BTreeMap::new();
    let mut add = |name: &str, mode, content| {
        entries.insert(name.to_owned(), Entry { mode, content });
    };
    add("control", 0o644, text.into_bytes());
    add("conffiles", 0o644, format!("/{}\n", CONFIG.1).into_bytes());
    for script in ["postinst", "prerm", "postrm"] {
        let path = command::workspace().join("deploy/debian").join(script);
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        add(script, 0o755, text);
    }
    Ok(entries)
}
