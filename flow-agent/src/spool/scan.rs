//! Reads one segment and its index, whatever is in them: records leave, with what is known of
//! those that are damaged.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

use uuid::Uuid;

use super::codec::{MOST_PIECE, PIECE};
use super::contents::Contents;
use super::core::Place;
use super::file_system::{FileSystem, OpenFile, is_damage, read_at};
use super::index::Note;
use super::record::RecordHeader;
use super::segment::{self, RECORDS, Sums, VERSION, index_name, segment_name};

/// An index that is larger is none of ours; the rest of it is not read.
const MOST_INDEX: u64 = 256 << 20;
/// A damaged file is searched for no more places than these that look like a record.
const MOST_CANDIDATES: usize = 100_000;
/// So much is searched at a time for the next record.
const STEP: usize = 1 << 20;

/// What a segment has.
#[derive(Debug, Default)]
pub struct Scan {
    /// In order.
    pub records: Vec<Record>,
    /// Batches that are done with.
    pub settled: BTreeSet<Uuid>,
    /// What was written here, and what was told of it.
    sums: Option<Sums>,
    told: Contents,
    /// Segment and index, in octets.
    pub octets: u64,
    /// Something is not as it was written.
    pub damaged: bool,
}

/// Why a segment is not known.
#[derive(Debug)]
pub enum Unread {
    /// It has this version, which is none of ours.
    Version(u32),
    /// The system refuses to read this file, which may be whole.
    Refused(String, io::Error),
}

/// A record.
#[derive(Debug)]
pub struct Record {
    pub offset: u64,
    pub header: RecordHeader,
    /// None: the header is known, the block is not there.
    pub place: Option<Place>,
}

impl Scan {
    /// Reads.
    ///
    /// # Errors
    /// It is of another version, or the system refuses to read it.
    pub fn of(files: &dyn FileSystem, number: u64) -> Result<Self, Unread> {
        let mut scan = Self::default();
        let [index_name, name] = [index_name(number), segment_name(number)];
        let index = files.open(&index_name).and_then(|file| whole(&*file));
        let index = match index {
            Err(error) if !is_damage(&error) => return Err(Unread::Refused(index_name, error)),
            index => index.unwrap_or_default(),
        };
        let segment = files.open(&name).and_then(|file| {
            let length = file.length()?;
            let mut front = vec![0; RECORDS as usize];
            let filled = read_at(&*file, 0, &mut front)?;
            front.truncate(filled);
            Ok((file, length, front))
        });
        let (file, length, front) = match segment {
            Ok((file, length, front)) => (Some(file), length, front),
            Err(error) if !is_damage(&error) => return Err(Unread::Refused(name, error)),
            Err(_) => (None, 0, Vec::new()),
        };
        let own = segment::version(&front);
        let version = own.or_else(|| segment::version(&index));
        if let Some(version) = version
            && version != VERSION
        {
            return Err(Unread::Version(version));
        }
        scan.octets = length + index.len() as u64;
        // A segment is damaged without its head, unless it died before it had one.
        scan.damaged = own.is_none() && (length >= RECORDS || file.is_none());
        let mut indexed = BTreeMap::new();
        for note in Note::all(&index) {
            match note {
                Note::Record(offset, header) => drop(indexed.insert(offset, header)),
                Note::Settled(id) => drop(scan.settled.insert(id)),
                Note::Lost(id) => {
                    scan.settled.insert(id);
                    scan.damaged = true;
                }
                Note::Told(contents) => {
                    scan.told.merge(&contents);
                    scan.damaged = true;
                }
            }
        }
        let mut visited = BTreeSet::new();
        if let Some(file) = file {
            let refused = Cell::new(None);
            let walk = Walk { file: &*file, number, length, indexed: &indexed, refused: &refused };
            walk.records(&mut scan, &mut visited);
            if let Some(error) = refused.take() {
                return Err(Unread::Refused(name, error));
            }
        }
        for (offset, header) in indexed {
            if !visited.contains(&offset) {
                scan.damaged |= offset < length;
                scan.records.push(Record { offset, header, place: None });
            }
        }
        scan.sums = Sums::decode(&front);
        Ok(scan)
    }

    /// The batch that was written last.
    pub fn last(&self) -> Option<Uuid> {
        self.sums.as_ref().map(|sums| sums.last)
    }

    /// What records hold of which neither header is left and that was not told yet. `elsewhere`
    /// has the headers of all segments' last batches.
    pub fn unknown(&self, elsewhere: &BTreeMap<Uuid, RecordHeader>) -> Option<Contents> {
        let sums = self.sums.as_ref()?;
        let mut known = self.told.clone();
        let mut ids = BTreeSet::new();
        for Record { header, .. } in self.records.iter().filter(|record| record.offset < sums.end) {
            ids.insert(header.id);
            known.add(header.rows, &header.counts);
        }
        // The write of the sums failed, and the batch went to another segment.
        if let Some(header) = elsewhere.get(&sums.last)
            && ids.insert(header.id)
        {
            known.add(header.rows, &header.counts);
        }
        // Of these nothing but the id is known.
        let only_settled = self.settled.iter().filter(|id| !ids.contains(id)).count() as u64;
        sums.contents.less(&known).filter(|unknown| unknown.batches > only_settled)
    }
}

fn whole(file: &dyn OpenFile) -> io::Result<Vec<u8>> {
    let mut octets = vec![0; file.length()?.min(MOST_INDEX) as usize];
    let filled = read_at(file, 0, &mut octets)?;
    octets.truncate(filled);
    Ok(octets)
}

struct Walk<'a> {
    file: &'a dyn OpenFile,
    number: u64,
    length: u64,
    indexed: &'a BTreeMap<u64, RecordHeader>,
    /// What the system last refused to read.
    refused: &'a Cell<Option<io::Error>>,
}

impl Walk<'_> {
    fn records(&self, scan: &mut Scan, visited: &mut BTreeSet<u64>) {
        let mut offset = RECORDS;
        while offset < self.length {
            let own = self.header(offset);
            let copy = || self.indexed.get(&offset).map(|h| (h.clone(), h.encode().len()));
            let damaged = own.is_none();
            let Some((header, length)) = own.or_else(copy) else {
                if let Some(next) = self.next(offset) {
                    scan.damaged = true;
                    offset = next;
                    continue;
                }
                // Nothing follows that could be read: the end of what was written.
                return;
            };
            scan.damaged |= damaged;
            visited.insert(offset);
            let block = offset + length as u64;
            let end = block + u64::from(header.octets);
            let place = Place { segment: self.number, offset: block, checksum: header.checksum };
            let place = (end <= self.length).then_some(place);
            scan.records.push(Record { offset, header, place });
            offset = end;
        }
    }

    /// How much was read; none where that is damaged, or refused.
    fn read(&self, offset: u64, octets: &mut [u8]) -> Option<usize> {
        match read_at(self.file, offset, octets) {
            Ok(filled) => Some(filled),
            Err(error) => {
                if !is_damage(&error) {
                    self.refused.set(Some(error));
                }
                None
            }
        }
    }

    /// The header there, if it is whole.
    fn header(&self, offset: u64) -> Option<(RecordHeader, usize)> {
        let mut front = [0; PIECE];
        let filled = self.read(offset, &mut front)?;
        let length = RecordHeader::length(&front[..filled])?;
        let mut octets = vec![0; length];
        let filled = self.read(offset, &mut octets)?;
        RecordHeader::decode(&octets[..filled])
    }

    /// Where the next record begins after a place where none does.
    fn next(&self, offset: u64) -> Option<u64> {
        let indexed = self.indexed.range(offset + 1..).next().map(|(offset, _)| *offset);
        let indexed = indexed.filter(|next| *next < self.length);
        let limit = indexed.unwrap_or(self.length);
        let mut octets = vec![0; STEP.min(MOST_PIECE)];
        let (mut from, mut candidates) = (offset, 0);
        while from < limit {
            let filled = self.read(from, &mut octets)?;
            let mut at = 0;
            while let Some(found) = RecordHeader::next_in(&octets[at..filled]) {
                at += found;
                let candidate = from + at as u64;
                candidates += 1;
                if candidate >= limit || candidates > MOST_CANDIDATES {
                    break;
                }
                if self.header(candidate).is_some() {
                    return Some(candidate);
                }
            }
            if filled < octets.len() || candidates > MOST_CANDIDATES {
                break;
            }
            // A magic number may lie across the steps.
            from += filled as u64 - 8;
        }
        indexed
    }
}
