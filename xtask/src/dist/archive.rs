//! Tar archives that are the same each time: root's, of one date, folders before what is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use super::tree::Entry;

/// The date of everything, Unix seconds: `SOURCE_DATE_EPOCH`, or the first day of 2026.
pub fn date() -> Result<u64> {
    std::env::var("SOURCE_DATE_EPOCH").map_or(Ok(1_767_225_600), |text| {
        text.parse().with_context(|| format!("SOURCE_DATE_EPOCH is {text:?}, not Unix seconds"))
    })
}

/// A compressed archive of these, each path behind `prefix`.
pub fn tar_gz(prefix: &str, entries: &BTreeMap<String, Entry>) -> Result<Vec<u8>> {
    let date = date()?;
    let gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    let mut tar = Builder::new(gzip);
    let mut made = BTreeSet::new();
    for (path, entry) in entries {
        let path = format!("{prefix}{path}");
        let folders: Vec<_> = Path::new(&path).ancestors().skip(1).collect();
        for folder in folders.into_iter().rev() {
            let name = folder.to_string_lossy().into_owned();
            if !name.is_empty() && name != "." && made.insert(name.clone()) {
                append(&mut tar, EntryType::Directory, &format!("{name}/"), 0o755, &[], date)?;
            }
        }
        append(&mut tar, EntryType::Regular, &path, entry.mode, &entry.content, date)?;
    }
    Ok(tar.into_inner()?.finish()?)
}

fn append(
    tar: &mut Builder<impl std::io::Write>,
    kind: EntryType,
    path: &str,
    mode: u32,
    content: &[u8],
    date: u64,
) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(date);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content).with_context(|| format!("cannot archive {path}"))
}
