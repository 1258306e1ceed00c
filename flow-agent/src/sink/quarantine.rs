//! The quarantine: a folder with the batches that the store refuses, one file each.
//!
//! Enters: a batch, why, and when. Leaves: the same, when somebody asks. It holds that a file is
//! there whole or not at all, and that what is read is what was written. A file begins with one
//! line of JSON for people, [`Card`]; the rest is the block.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flow_common::Count;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::SinkError;
use crate::Exit;
use crate::frozen::{FrozenBatch, Table};

/// Of the files; another one is not read.
const FORMAT: &str = "flow-agent quarantine 1";
const SUFFIX: &str = ".batch";
/// A line of JSON is never longer: interfaces are its longest part.
const MOST_CARD_OCTETS: usize = 4 << 20;
/// As no block is larger.
const MOST_BLOCK_OCTETS: u64 = 1 << 30;
/// Files that are taken in; more say that something else than some rows is wrong.
const MOST_FILES: usize = 10_000;

/// Where they are unless told otherwise.
pub const DEFAULT_DIR: &str = "/var/lib/flow-agent/quarantine";

/// Why a batch is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The store refuses its rows.
    Refused,
    /// The store has something else than all or nothing of it.
    Stuck,
    /// It may be in the store, and what would tell has expired.
    Late,
}

impl Reason {
    /// For people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Stuck => "stuck",
            Self::Late => "late",
        }
    }
}

/// What is known of a batch in quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    format: String,
    /// Of the batch.
    pub id: Uuid,
    /// Where its rows go.
    pub table: String,
    /// Unix seconds when it was frozen.
    pub exported_at: u32,
    /// How many.
    pub rows: u32,
    /// Why it is here.
    pub reason: Reason,
    /// What the server said.
    pub error: String,
    /// Which server.
    pub server: String,
    /// When, Unix ns.
    pub at_ns: u64,
    /// Packets and octets by interface.
    pub counts: Vec<(String, u64, u64)>,
    /// Of the block.
    octets: u64,
    /// Of the block, and of all above.
    checksum: String,
}

/// Why the quarantine cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message says what each field is")]
pub enum QuarantineError {
    /// The folder or a file cannot be read or written.
    #[error("the quarantine {path} cannot be used: {source}; check its owner, mode and disk")]
    Io { path: PathBuf, source: io::Error },
    /// There is no such batch.
    #[error("{id} is not in the quarantine {dir}; flow-agent quarantine list shows what is")]
    Unknown { id: String, dir: PathBuf },
    /// The file is not as it was written.
    #[error("{path} is damaged: {problem}; remove it if you do not need it")]
    Damaged { path: PathBuf, problem: &'static str },
    /// It is full.
    #[error(
        "the quarantine {dir} has {MOST_FILES} batches already; look at them (flow-agent \
         quarantine list), then resend or remove them"
    )]
    Full { dir: PathBuf },
}

impl QuarantineError {
    /// The process exit code for this error.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Unknown { .. } => Exit::Usage,
            Self::Io { .. } | Self::Damaged { .. } | Self::Full { .. } => Exit::Failed,
        }
    }
}

impl From<QuarantineError> for SinkError {
    fn from(error: QuarantineError) -> Self {
        let (path, source) = match error {
            QuarantineError::Io { path, source } => (path, source),
            QuarantineError::Unknown { ref dir, .. } | QuarantineError::Full { ref dir } => {
                (dir.clone(), io::Error::other(error.to_string()))
            }
            QuarantineError::Damaged { ref path, .. } => {
                (path.clone(), io::Error::other(error.to_string()))
            }
        };
        Self::Output { path: path.display().to_string(), source }
    }
}

/// The folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantine {
    dir: PathBuf,
    /// It takes nothing in.
    closed: bool,
}

impl Quarantine {
    /// The one in this folder, which is made when it is needed.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), closed: false }
    }

    /// The same, which delivery only looks into.
    #[must_use]
    pub fn closed(self) -> Self {
        Self { closed: true, ..self }
    }

    /// False for one that takes nothing in.
    pub fn is_open(&self) -> bool {
        !self.closed
    }

    /// True if this batch is in it.
    pub fn has(&self, id: Uuid) -> bool {
        self.path(id).exists()
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Keeps a batch; it is on disk afterwards. The same batch again replaces the first.
    ///
    /// # Errors
    /// It is not kept.
    pub fn put(
        &self,
        batch: &FrozenBatch,
        reason: Reason,
        error: &str,
        server: &str,
        now_ns: u64,
    ) -> Result<(), QuarantineError> {
        let counts = batch.counts.iter().map(|(name, count)| {
            let Count { packets, octets } = *count;
            (name.to_string(), packets, octets)
        });
        let mut card = Card {
            format: FORMAT.into(),
            id: batch.id,
            table: batch.table.name().into(),
            exported_at: batch.exported_at,
            rows: batch.rows,
            reason,
            error: error.into(),
            server: server.into(),
            at_ns: now_ns,
            counts: counts.collect(),
            octets: batch.block.len() as u64,
            checksum: String::new(),
        };
        card.checksum = card.sum(&batch.block);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(|source| self.io(source))?;
        if self.names()?.len() >= MOST_FILES && !self.path(batch.id).exists() {
            return Err(QuarantineError::Full { dir: self.dir.clone() });
        }
        self.write(&card, &batch.block).map_err(|source| self.io(source))
    }

    fn write(&self, card: &Card, block: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(&self.dir)?;
        serde_json::to_writer(&mut file, card)?;
        file.write_all(b"\n")?;
        file.write_all(block)?;
        file.as_file().sync_all()?;
        file.persist(self.path(card.id)).map_err(|error| error.error)?;
        File::open(&self.dir)?.sync_all()
    }

    /// What is in it, oldest first; files that are damaged or none of ours are beside it.
    ///
    /// # Errors
    /// The folder cannot be read. One that is missing is empty.
    pub fn list(&self) -> Result<(Vec<Card>, Vec<QuarantineError>), QuarantineError> {
        let mut cards = Vec::new();
        let mut damaged = Vec::new();
        for name in self.names()? {
            let path = self.dir.join(name);
            match File::open(&path).map_err(|source| io_at(&path, source)) {
                Ok(mut file) => match read_card(&mut file, &path) {
                    Ok((card, _)) => cards.push(card),
                    Err(error) => damaged.push(error),
                },
                Err(error) => damaged.push(error),
            }
        }
        cards.sort_by_key(|card| (card.at_ns, card.id));
        Ok((cards, damaged))
    }

    /// One batch and what is known of it.
    ///
    /// # Errors
    /// It is not there, or damaged.
    pub fn get(&self, id: Uuid) -> Result<(Card, FrozenBatch), QuarantineError> {
        let path = self.path(id);
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(QuarantineError::Unknown { id: id.to_string(), dir: self.dir.clone() });
            }
            file => file.map_err(|source| io_at(&path, source))?,
        };
        let damaged = |problem| QuarantineError::Damaged { path: path.clone(), problem };
        let (card, mut block) = read_card(&mut file, &path)?;
        let rest = card.octets.saturating_sub(block.len() as u64) + 1;
        file.take(rest).read_to_end(&mut block).map_err(|source| io_at(&path, source))?;
        if card.id != id || block.len() as u64 != card.octets {
            return Err(damaged("it has another length than it says"));
        }
        if card.sum(&block) != card.checksum {
            return Err(damaged("its checksum is wrong"));
        }
        let tables = [Table::Flows, Table::Ledger, Table::Latency];
        let table = tables.into_iter().find(|table| table.name() == card.table);
        let table = table.ok_or_else(|| damaged("it is of an unknown table"))?;
        let counts = card.counts.iter().map(|(name, packets, octets)| {
            (name.as_str().into(), Count { packets: *packets, octets: *octets })
        });
        let batch = FrozenBatch {
            id,
            table,
            exported_at: card.exported_at,
            rows: card.rows,
            counts: counts.collect(),
            block: Bytes::from(block),
        };
        Ok((card, batch))
    }

    /// Forgets a batch.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove(&self, id: Uuid) -> Result<(), QuarantineError> {
        fs::remove_file(self.path(id)).map_err(|source| io_at(&self.path(id), source))
    }

    /// The ids of all that is in it.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn ids(&self) -> Result<Vec<Uuid>, QuarantineError> {
        let names = self.names()?.into_iter();
        Ok(names.filter_map(|name| name.strip_suffix(SUFFIX)?.parse().ok()).collect())
    }

    /// Names of its files.
    fn names(&self) -> Result<Vec<String>, QuarantineError> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| self.io(source))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| self.io(source))?;
            if let Ok(name) = entry.file_name().into_string()
                && name.ends_with(SUFFIX)
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn path(&self, id: Uuid) -> PathBuf {
        self.dir.join(format!("{id}{SUFFIX}"))
    }

    fn io(&self, source: io::Error) -> QuarantineError {
        io_at(&self.dir, source)
    }
}

fn io_at(path: &Path, source: io::Error) -> QuarantineError {
    QuarantineError::Io { path: path.into(), source }
}

/// The card, and what was read after it.
fn read_card(file: &mut File, path: &Path) -> Result<(Card, Vec<u8>), QuarantineError> {
    let damaged = |problem| QuarantineError::Damaged { path: path.into(), problem };
    let mut octets = Vec::new();
    loop {
        let before = octets.len();
        let read = Read::by_ref(file).take(64 << 10).read_to_end(&mut octets);
        let read = read.map_err(|source| io_at(path, source))?;
        if let Some(end) = octets[before..].iter().position(|octet| *octet == b'\n') {
            let rest = octets.split_off(before + end + 1);
            let card: Card = serde_json::from_slice(&octets)
                .map_err(|_| damaged("its first line is no JSON of a batch"))?;
            if card.format != FORMAT || card.octets > MOST_BLOCK_OCTETS {
                return Err(damaged("it is of another version"));
            }
            return Ok((card, rest));
        }
        if read == 0 || octets.len() > MOST_CARD_OCTETS {
            return Err(damaged("its first line has no end"));
        }
    }
}

impl Card {
    /// A checksum of the block and of everything that is said of it.
    fn sum(&self, block: &[u8]) -> String {
        let block = cityhash_rs::cityhash_102_128(block);
        let plain = Self { checksum: format!("{block:032x}"), ..self.clone() };
        // The order of fields is that of the type.
        let text = serde_json::to_vec(&plain).unwrap_or_default();
        format!("{:032x}", cityhash_rs::cityhash_102_128(&text))
    }

    /// Its packets and octets.
    pub fn total(&self) -> Count {
        let mut total = Count::default();
        for (_, packets, octets) in &self.counts {
            total.add(*packets, *octets);
        }
        total
    }
}

#[cfg(test)]
#[path = "quarantine_tests.rs"]
mod tests;
