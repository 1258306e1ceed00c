//! What happens to the spool of a killed agent: its files are changed. Each returns what it did.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

/// Where the records of a segment begin.
const RECORDS: usize = 12 << 10;

/// Flips a bit in each KiB of the largest segment's records: the first are of books, which have
/// no packets, and every record is hit.
pub fn flip(spool: &Path) -> Result<String> {
    let (path, mut octets) = largest(spool)?;
    let places = (RECORDS..octets.len()).step_by(1 << 10);
    let count = places.clone().count();
    places.for_each(|at| octets[at] ^= 1);
    fs::write(&path, octets)?;
    Ok(format!("a bit in each KiB of {} was flipped, {count} in all", name(&path)))
}

/// Cuts the largest segment after a quarter of its records.
pub fn truncate(spool: &Path) -> Result<String> {
    let (path, octets) = largest(spool)?;
    let end = RECORDS + (octets.len() - RECORDS) / 4;
    fs::write(&path, &octets[..end])?;
    Ok(format!("{} was cut from {} to {end} octets", name(&path), octets.len()))
}

/// Copies the largest segment under another number.
pub fn duplicate(spool: &Path) -> Result<String> {
    let (path, _) = largest(spool)?;
    let copy = spool.join("00000777.spool");
    fs::copy(&path, &copy)?;
    Ok(format!("{} is there again as {}", name(&path), name(&copy)))
}

/// Gives two segments each other's names.
pub fn reorder(spool: &Path) -> Result<String> {
    let all = segments(spool)?;
    let [first, second, ..] = all.as_slice() else { anyhow::bail!("one segment: {all:?}") };
    for extension in ["spool", "index"] {
        let (first, second) = (first.with_extension(extension), second.with_extension(extension));
        let aside = spool.join("aside");
        fs::rename(&first, &aside)?;
        fs::rename(&second, &first)?;
        fs::rename(&aside, &second)?;
    }
    Ok(format!("{} and {} have changed their names", name(first), name(second)))
}

/// Overwrites the head and both sums of the largest segment.
pub fn behead(spool: &Path) -> Result<String> {
    let (path, mut octets) = largest(spool)?;
    octets[..RECORDS].fill(0);
    fs::write(&path, octets)?;
    Ok(format!("the first {RECORDS} octets of {} are zeros", name(&path)))
}

/// Removes all index files.
pub fn lose_indices(spool: &Path) -> Result<String> {
    let indices = files(spool, "index")?;
    ensure!(!indices.is_empty(), "there are no index files");
    indices.iter().try_for_each(fs::remove_file)?;
    Ok(format!("{} index files were removed", indices.len()))
}

/// The segments of a spool, the longest first.
fn segments(spool: &Path) -> Result<Vec<PathBuf>> {
    let mut found = files(spool, "spool")?;
    found.sort_by_key(|path| std::cmp::Reverse(path.metadata().map_or(0, |data| data.len())));
    ensure!(!found.is_empty(), "{} has no segments", spool.display());
    Ok(found)
}

fn files(spool: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let names = fs::read_dir(spool)?.collect::<std::io::Result<Vec<_>>>()?;
    let paths = names.into_iter().map(|entry| entry.path());
    Ok(paths.filter(|path| path.extension().is_some_and(|end| end == extension)).collect())
}

fn largest(spool: &Path) -> Result<(PathBuf, Vec<u8>)> {
    let path = segments(spool)?.swap_remove(0);
    let octets = fs::read(&path)?;
    ensure!(octets.len() > 2 * RECORDS, "{} is nearly empty", path.display());
    Ok((path, octets))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
