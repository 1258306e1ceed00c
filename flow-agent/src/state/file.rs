//! The state file: a header, the state, a checksum of both; replaced whole or not at all.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Crc;

use super::part::{State, decode, encode};

const MAGIC: [u8; 8] = *b"FLOWSTAT";
const VERSION: u32 = 1;
/// Magic number, version, length of the state.
const HEADER: usize = 8 + 4 + 8;
const CHECKSUM: usize = 4;
/// A file that is larger is none of ours.
const MOST_OCTETS: u64 = 256 << 20;
/// A clock may have been set back a little since the file was written.
const CLOCK_SLACK: Duration = Duration::from_secs(300);

/// Why a state file is not used or cannot be written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message says what each field is")]
pub enum StateError {
    /// It cannot be read.
    #[error("{path} cannot be read: {source}")]
    Read { path: String, source: io::Error },
    /// It cannot be written.
    #[error("{path} cannot be written: {source}")]
    Write { path: String, source: io::Error },
    /// It is too large.
    #[error("{path} is larger than {} MiB", MOST_OCTETS >> 20)]
    TooLarge { path: String },
    /// It is something else.
    #[error("{path} is no state file")]
    Foreign { path: String },
    /// Another agent wrote it.
    #[error("{path} has version {found}, this agent knows {VERSION}")]
    Version { path: String, found: u32 },
    /// It is cut or its octets have changed.
    #[error("{path} is damaged: {problem}")]
    Damaged { path: String, problem: String },
    /// It is too old.
    #[error("{path} is {age_s} s old, more than {most_s} s")]
    Stale { path: String, age_s: u64, most_s: u64 },
    /// It is from the future.
    #[error("{path} is {ahead_s} s younger than the clock says it is now")]
    Ahead { path: String, ahead_s: u64 },
}

/// A state file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// The one at this path, there or not.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Reads it; none if there is no file.
    ///
    /// # Errors
    /// It cannot be read, is none, is damaged, or is older than `max_age` at `now_ns` (Unix).
    pub fn load(&self, now_ns: u64, max_age: Duration) -> Result<Option<State>, StateError> {
        let mut octets = Vec::new();
        let read = open_regular(&self.path)
            .and_then(|file| file.take(MOST_OCTETS + 1).read_to_end(&mut octets));
        match read {
            Ok(_) if octets.len() as u64 > MOST_OCTETS => {
                return Err(StateError::TooLarge { path: self.name() });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::Read { path: self.name(), source }),
        }
        let state = self.parse(&octets)?;
        let path = self.name();
        let age = Duration::from_nanos(now_ns.saturating_sub(state.saved_at_ns));
        let ahead = Duration::from_nanos(state.saved_at_ns.saturating_sub(now_ns));
        if age > max_age {
            return Err(StateError::Stale {
                path,
                age_s: age.as_secs(),
                most_s: max_age.as_secs(),
            });
        }
        if ahead > CLOCK_SLACK {
            return Err(StateError::Ahead { path, ahead_s: ahead.as_secs() });
        }
        Ok(Some(state))
    }

    pub(super) fn parse(&self, octets: &[u8]) -> Result<State, StateError> {
        let path = || self.name();
        let damaged = |problem: &str| StateError::Damaged { path: path(), problem: problem.into() };
        if !octets.starts_with(&MAGIC) {
            return Err(StateError::Foreign { path: path() });
        }
        let Some((content, checksum)) = octets.split_last_chunk::<CHECKSUM>() else {
            return Err(damaged("it is cut"));
        };
        let Some((header, state)) = content.split_first_chunk::<HEADER>() else {
            return Err(damaged("it is cut"));
        };
        let version = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
        let length = u64::from_le_bytes(header[12..].try_into().unwrap_or_default());
        if checksum_of(content).to_le_bytes() != *checksum {
            return Err(damaged("its checksum is another one"));
        }
        if version != VERSION {
            return Err(StateError::Version { path: path(), found: version });
        }
        if length != state.len() as u64 {
            return Err(damaged("its length is another one"));
        }
        decode(state).map_err(|problem| StateError::Damaged { path: path(), problem })
    }

    /// Replaces it: another reader, or a crash at any moment, finds the old one or the new one.
    ///
    /// # Errors
    /// The folder cannot be made or written to, or the disk is full; the old file stays.
    pub fn save(&self, state: &State) -> Result<(), StateError> {
        self.replace(&serialize(state))
            .map_err(|source| StateError::Write { path: self.name(), source })
    }

    fn replace(&self, octets: &[u8]) -> io::Result<()> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        // Only for its owner: it says who talks to whom.
        let mut file = tempfile::Builder::new().prefix(".flow-agent-state-").tempfile_in(folder)?;
        file.write_all(octets)?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    }
}

/// A fifo would wait for a writer, a device may have no end.
fn open_regular(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    File::open(path)
}

pub(super) fn serialize(state: &State) -> Vec<u8> {
    let state = encode(state).unwrap_or_default();
    let mut octets = Vec::with_capacity(HEADER + state.len() + CHECKSUM);
    octets.extend(MAGIC);
    octets.extend(VERSION.to_le_bytes());
    octets.extend((state.len() as u64).to_le_bytes());
    octets.extend(state);
    let checksum = checksum_of(&octets);
    octets.extend(checksum.to_le_bytes());
    octets
}

fn checksum_of(octets: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(octets);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const NOW: u64 = 1_700_000_000_000_000_000;

    fn state() -> State {
        let parts = [("initiators", 1, &b"some"[..]), ("listeners", 3, b""), ("own", 0, &[0; 40])];
        let parts = parts
            .into_iter()
            .map(|(name, version, octets)| (name.to_string(), (version, octets.to_vec())));
        State { saved_at_ns: NOW, parts: parts.collect() }
    }

    fn folder() -> (tempfile::TempDir, StateFile) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = StateFile::new(folder.path().join("new/state"));
        (folder, file)
    }

    #[test]
    fn what_was_saved_is_loaded_and_nothing_else_is_left() {
        let (_folder, file) = folder();
        assert_eq!(file.load(NOW, DAY).expect("no file"), None);
        file.save(&State::default()).expect("ours");
        file.save(&state()).expect("replaced");
        assert_eq!(file.load(NOW + 5, DAY).expect("whole"), Some(state()));
        let entries = fs::read_dir(file.path().parent().expect("a folder")).expect("ours");
        assert_eq!(entries.count(), 1);
        use std::os::unix::fs::PermissionsExt;
        let mode = file.path().metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn every_cut_and_every_changed_octet_is_refused() {
        let (_folder, file) = folder();
        let whole = serialize(&state());
        for length in 0..whole.len() {
            assert!(file.parse(&whole[..length]).is_err(), "{length} octets");
        }
        for position in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[position] ^= 1 << bit;
                assert!(file.parse(&changed).is_err(), "bit {bit} of octet {position}");
            }
        }
        assert!(file.parse(&[&whole[..], b"x"].concat()).is_err());
        assert_eq!(file.parse(&whole).expect("whole"), state());
    }

    proptest! {
        #[test]
        fn any_state_is_read_as_it_was_and_never_as_another(
            saved_at_ns: u64,
            parts in prop::collection::btree_map(
                "[a-z]{0,8}", (any::<u32>(), prop::collection::vec(any::<u8>(), 0..50)), 0..4),
            position: prop::sample::Index,
            octet: u8,
            noise in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let state = State { saved_at_ns, parts };
            let file = StateFile::new("state");
            let mut octets = serialize(&state);
            prop_assert_eq!(file.parse(&octets).ok(), Some(state.clone()));
            let at = position.index(octets.len());
            octets[at] = octet;
            if let Ok(read) = file.parse(&octets) {
                prop_assert_eq!(read, state);
            }
            prop_assert!(file.parse(&noise).is_err());
            prop_assert!(file.parse(&[&MAGIC[..], &noise[..]].concat()).is_err());
        }
    }

    #[test]
    fn what_is_not_used_says_why() {
        let (folder, file) = folder();
        file.save(&state()).expect("ours");
        let later = |seconds: u64| NOW + seconds * 1_000_000_000;
        let refused = |now_ns, words: &str| {
            let error = file.load(now_ns, DAY).expect_err(words).to_string();
            assert!(error.contains(words) && error.contains("new/state"), "{error}");
        };
        assert!(file.load(later(86_400), DAY).is_ok());
        refused(later(86_401), "is 86401 s old, more than 86400 s");
        assert!(file.load(NOW - 300_000_000_000, DAY).is_ok());
        refused(NOW - 301_000_000_000, "is 301 s younger than the clock says");
        fs::write(file.path(), "something else").expect("ours");
        refused(NOW, "is no state file");
        let mut newer = serialize(&state());
        newer[8] = 2;
        let end = newer.len() - CHECKSUM;
        let checksum = checksum_of(&newer[..end]);
        newer.splice(end.., checksum.to_le_bytes());
        fs::write(file.path(), newer).expect("ours");
        refused(NOW, "has version 2, this agent knows 1");

        for path in [folder.path().to_path_buf(), "/dev/zero".into()] {
            let error = StateFile::new(path).load(NOW, DAY).expect_err("refused").to_string();
            assert!(error.contains("no regular file"), "{error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_the_old_one() {
        let (folder, file) = folder();
        file.save(&state()).expect("ours");
        // A folder in its place can be neither read nor replaced.
        let blocked = StateFile::new(folder.path().join("new"));
        let error = blocked.save(&State::default()).expect_err("a folder").to_string();
        assert!(error.contains("cannot be written"), "{error}");
        assert_eq!(file.load(NOW, DAY).expect("whole"), Some(state()));
        assert_eq!(fs::read_dir(folder.path()).expect("ours").count(), 1, "nothing is left over");
        let full = StateFile::new("/proc/flow-agent/state");
        assert!(full.save(&State::default()).is_err());
    }
}
