//! Which shards of the store the batches of a spool may be on: a file in the spool's folder.
//!
//! Enters: the shards of today, what the file says of earlier agents. Leaves: up to which segment
//! batches may be on a shard that is not named any more. It holds that such a batch is not sent to
//! another shard, where it would be there twice.
//!
//! Each line has the first segment of an agent that had these shards, and one of them: its
//! replicas, with tabs between. A batch may be on any shard of the agent that wrote it and of
//! those after it, because they sent what they found.

use std::io;

use super::error::SpoolError;
use super::file_system::{FileSystem, append_all, is_damage, read_at};

/// The file.
pub const SHARDS: &str = "shards";
/// The same, while it is written.
pub const NEW_SHARDS: &str = "shards.new";
/// A line that cannot be read: no segment is beyond it.
const UNKNOWN: u64 = u64::MAX;

/// What may be on shards that are not named any more.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// Batches of segments before this one.
    pub below: u64,
    /// The shards.
    pub missing: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    from: u64,
    replicas: Vec<String>,
}

/// Compares with the shards of today and notes them. `oldest` is the first segment there is, if
/// there is one, `next` the next one to be written, which becomes a later one if need be.
///
/// # Errors
/// The system refuses to read the file.
pub fn compare(
    files: &dyn FileSystem,
    today: &[Vec<String>],
    oldest: Option<u64>,
    next: &mut u64,
) -> Result<Elsewhere, SpoolError> {
    let mut lines = read(files).map_err(|source| {
        let [path, file] = [files.name(), SHARDS.to_owned()];
        SpoolError::Unread { path, file, source }
    })?;
    let before = lines.clone();
    let first = oldest.map(|oldest| {
        let froms = lines.iter().map(|line| line.from);
        froms.filter(|from| *from <= oldest).max().unwrap_or(0)
    });
    lines.retain(|line| first.is_some_and(|first| line.from >= first));
    let named = |url: &String| today.iter().flatten().any(|other| other == url);
    let missing: Vec<&Line> =
        lines.iter().filter(|line| !line.replicas.iter().any(named)).collect();
    let last = missing.iter().map(|line| line.from).max();
    let later = |last| lines.iter().map(|line| line.from).filter(|from| *from > last).min();
    let below = last.map_or(0, |last| later(last).unwrap_or(UNKNOWN));
    let missing = missing.iter().map(|line| line.replicas.join(",")).collect();

    let known = lines.iter().map(|line| line.from).filter(|from| *from != UNKNOWN).max();
    let current = lines.iter().filter(|line| Some(line.from) == known).map(|line| &line.replicas);
    if !current.eq(today) {
        *next = known.map_or(*next, |known| (*next).max(known + 1));
        let from = *next;
        lines.extend(today.iter().map(|replicas| Line { from, replicas: replicas.clone() }));
    }
    if lines != before
        && let Err(error) = write(files, &lines)
    {
        tracing::warn!(
            "the shards of the store cannot be noted in the spool {}: {error}; batches that wait \
             when they change may be sent twice",
            files.name()
        );
    }
    Ok(Elsewhere { below, missing })
}

fn read(files: &dyn FileSystem) -> io::Result<Vec<Line>> {
    let text = files.open(SHARDS).and_then(|file| {
        let mut octets = vec![0; file.length()? as usize];
        let filled = read_at(&*file, 0, &mut octets)?;
        Ok(String::from_utf8_lossy(&octets[..filled]).into_owned())
    });
    match text {
        Ok(text) => Ok(text.lines().map(line).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) if is_damage(&error) => Ok(vec![line("a file that cannot be read")]),
        Err(error) => Err(error),
    }
}

fn line(text: &str) -> Line {
    let mut words = text.split('\t').map(str::to_owned);
    let from = words.next().and_then(|from| from.parse().ok());
    match from {
        Some(from) => Line { from, replicas: words.collect() },
        None => Line { from: UNKNOWN, replicas: vec![text.to_owned()] },
    }
}

fn write(files: &dyn FileSystem, lines: &[Line]) -> io::Result<()> {
    let mut text = String::new();
    for Line { from, replicas } in lines {
        let from = if *from == UNKNOWN { String::new() } else { format!("{from}\t") };
        text.extend([&from, &replicas.join("\t"), "\n"]);
    }
    // What an agent left that died while it wrote.
    let _ = files.remove(NEW_SHARDS);
    let file = files.create(NEW_SHARDS)?;
    append_all(&*file, text.as_bytes())?;
    file.sync()?;
    files.rename(NEW_SHARDS, SHARDS)?;
    files.sync_folder()
}
