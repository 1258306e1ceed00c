//! The RPM package: the same files as the Debian one, where Fedora and its relatives have them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rpm::{BuildConfig, CompressionWithLevel, Dependency, FileOptions, PackageBuilder};

use super::archive;
use super::tree::{CONFIG, Tree};
use crate::command;

/// Folders that are gone with the package, with those in them.
const OWN: [&str; 2] = ["/etc/flow-agent", "/usr/share/doc/flow-agent"];

/// The package of these files.
pub fn package(tree: &Tree, version: &str) -> Result<Vec<u8>> {
    let date = u32::try_from(archive::date()?).context("SOURCE_DATE_EPOCH is too far ahead")?;
    let config = BuildConfig::v4().compression(CompressionWithLevel::Gzip(9)).source_date(date);
    let summary = "Network flow agent that accounts for every packet";
    let license = "(Apache-2.0 OR MIT) AND GPL-2.0-only";
    let arch = std::env::consts::ARCH;
    let mut package = PackageBuilder::new("flow-agent", version, license, arch, summary);
    package
        .using_config(config)
        .description("Meters packets in the kernel by eBPF and stores flow records in ClickHouse.")
        .build_host("localhost") // nothing of the machine that builds it
        .requires(Dependency::any("libc.so.6(GLIBC_2.34)(64bit)"))
        .requires(Dependency::any("libgcc_s.so.1()(64bit)"))
        .recommends(Dependency::any("systemd"))
        .post_install_script(script("post")?)
        .pre_uninstall_script(script("preun")?)
        .post_uninstall_script(script("postun")?);
    let folders: BTreeSet<String> = tree
        .0
        .keys()
        .flat_map(|path| Path::new(path).ancestors().skip(1))
        .map(|folder| format!("/{}", folder.display()))
        .filter(|folder| OWN.iter().any(|own| Path::new(folder).starts_with(own)))
        .collect();
    for folder in folders {
        package.with_dir_entry(FileOptions::dir(folder).permissions(0o755))?;
    }
    for (path, entry) in &tree.0 {
        let to = format!("/{}", path.replace("zsh/vendor-completions", "zsh/site-functions"));
        let mut options = FileOptions::new(to).permissions(entry.mode as u16);
        if path == CONFIG.1 {
            options = options.config().noreplace();
        } else if path.contains("/LICENSE") {
            options = options.license();
        } else if path.starts_with("usr/share/doc/") || path.starts_with("usr/share/man/") {
            options = options.doc();
        }
        package
            .with_file_contents(entry.content.clone(), options)
            .with_context(|| format!("cannot package {path}"))?;
    }
    let mut octets = Vec::new();
    package.build()?.write(&mut octets)?;
    Ok(octets)
}

fn script(name: &str) -> Result<String> {
    let path = command::workspace().join("deploy/rpm").join(name);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}
