//! Real captures for the tests that replay them.

use std::path::{Path, PathBuf};

/// The folder of real captures: what `FLOW_PCAP_CORPUS` names, else `shared/pcaps` beside the
/// repository; none where neither is there.
///
/// # Panics
/// `FLOW_PCAP_CORPUS` names no folder.
pub fn folder() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("FLOW_PCAP_CORPUS") {
        let folder = PathBuf::from(named);
        assert!(folder.is_dir(), "FLOW_PCAP_CORPUS={} is no folder", folder.display());
        return Some(folder);
    }
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/pcaps");
    beside.is_dir().then_some(beside)
}

/// The captures of a folder, in order.
///
/// # Panics
/// It cannot be read, or holds none.
pub fn captures(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{} cannot be read: {error}", folder.display()));
    let mut captures: Vec<_> = entries
        .map(|entry| entry.expect("a folder can be read on").path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let name = name.trim_end_matches(".gz");
            [".pcap", ".pcapng", ".cap"].iter().any(|end| name.ends_with(end))
        })
        .collect();
    assert!(!captures.is_empty(), "{} has no captures", folder.display());
    captures.sort();
    captures
}
