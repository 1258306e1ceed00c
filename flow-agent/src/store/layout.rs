//! What made a data folder: a small file in it names the layout of the folder
//! and the engine and agent that opened it last. What must hold: a folder of a
//! newer engine or layout is refused before the engine touches it.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use super::StoreError;

const VERSION_FILE: &str = "flow-agent.version";
/// Of the folder: the engine's files beside the lock and this file.
const LAYOUT: u32 = 1;

/// What the version file says; a folder from before there was one says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Made {
    layout: u32,
    engine: String,
    agent: String,
}

impl Made {
    fn parse(text: &str) -> Self {
        let value = |key: &str| {
            let of_line = |line: &str| line.strip_prefix(key)?.strip_prefix(' ').map(str::to_owned);
            text.lines().find_map(of_line).unwrap_or_default()
        };
        let layout = value("layout").parse().unwrap_or_default();
        Self { layout, engine: value("engine"), agent: value("agent") }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let Self { layout, engine, agent } = self;
        let _ = writeln!(text, "layout {layout}\nengine {engine}\nagent {agent}");
        text
    }
}

/// Year and release: patches of one release read each other's folders.
fn release(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|part| part.parse().unwrap_or_default());
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

/// Refuses a folder that this engine, of version `engine`, may not understand.
pub fn check(dir: &Path, engine: &str) -> Result<(), StoreError> {
    let made = match fs::read_to_string(dir.join(VERSION_FILE)) {
        Ok(text) => Made::parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(super::folder::failed(dir, source)),
    };
    if made.layout > LAYOUT || release(&made.engine) > release(engine) {
        return Err(StoreError::NewerFolder {
            dir: dir.to_owned(),
            made: format!("engine {}, layout {}", made.engine, made.layout),
            known: format!("engine {engine}, layout {LAYOUT}"),
        });
    }
    if release(&made.engine) < release(engine) {
        tracing::info!(
            "the store in {} was made by engine {}; engine {engine} opens it, and an older one \
             may not be able to afterwards",
            dir.display(),
            made.engine
        );
    }
    Ok(())
}

/// Notes which engine has opened the folder.
pub fn note(dir: &Path, engine: &str) -> Result<(), StoreError> {
    let agent = env!("CARGO_PKG_VERSION").to_owned();
    let text = Made { layout: LAYOUT, engine: engine.to_owned(), agent }.text();
    let path = dir.join(VERSION_FILE);
    if fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let fresh = dir.join("flow-agent.version.new");
    let written = File::create(&fresh)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&fresh, &path))
        .and_then(|()| File::open(dir)?.sync_all());
    written.map_err(|source| super::folder::failed(dir, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_is_refused_and_older_is_not() {
        let dir = tempfile::tempdir().unwrap();
        check(dir.path(), "26.7.3").unwrap();
        note(dir.path(), "26.7.3").unwrap();
        for (engine, known) in [
            ("26.7.1", true),
            ("26.7.3", true),
            ("26.10.1", true),
            ("27.1.1", true),
            ("26.6.9", false),
            ("25.12.1", false),
        ] {
            let checked = check(dir.path(), engine);
            assert_eq!(checked.is_ok(), known, "{engine}: {checked:?}");
        }
        let made = Made { layout: LAYOUT + 1, ..Made::parse("engine 26.7.3") };
        fs::write(dir.path().join(VERSION_FILE), made.text()).unwrap();
        let refused = check(dir.path(), "26.7.3").unwrap_err().to_string();
        assert!(refused.contains("layout 2") && refused.contains("26.7.3"), "{refused}");
    }
}
