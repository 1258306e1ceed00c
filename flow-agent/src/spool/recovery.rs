//! Opening a spool: what is in its folder enters, both ends leave.
//!
//! It always opens, whatever the files contain, unless the system refuses to read one: what is in
//! that is not known, so nothing may be called lost. It holds that each batch that was stored and not
//! settled is handed out once, in order, however often it is in the files; and that what cannot
//! be read back is told once, in packets and octets by interface.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use rustix::io::Errno;
use uuid::Uuid;

use super::book::Book;
use super::contents::{Contents, LossReason, Losses};
use super::core::{Core, Entry, Place, State};
use super::disk::Disk;
use super::error::SpoolError;
use super::file_system::{FileSystem, append_all, is_damage};
use super::folder::{Folder, LOCK};
use super::index::Note;
use super::reader::SpoolReader;
use super::record::RecordHeader;
use super::scan::{Record, Scan, Unread};
use super::segment::{Name, head, index_name};
use super::settings::{Fsync, SpoolSettings, Waits};
use super::shards::{Elsewhere, NEW_SHARDS, SHARDS, compare};
use super::shared::Shared;
use super::status::SpoolFigures;
use super::syncer::Syncer;
use super::writer::SpoolWriter;

/// What an agent before this one left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Batches that wait; all are in doubt.
    pub waiting: Contents,
    /// The ids of those.
    pub ids: BTreeSet<Uuid>,
    /// What cannot be read back, by reason. More may come when blocks are read.
    pub lost: Losses,
    /// Of those that wait, what is held back: it may be on shards that are not named any more.
    pub held: Contents,
    /// These shards.
    pub held_for: Vec<String>,
    /// Files that are left alone: of another version, or none of ours.
    pub foreign: Vec<String>,
}

/// Opens spools.
#[derive(Debug)]
pub struct Spool;

impl Spool {
    /// Opens the spool of these settings.
    ///
    /// # Errors
    /// Another agent has it, its folder cannot be used, a file in it cannot be read although it
    /// may be whole, or the system refuses a thread.
    pub fn open(
        settings: &SpoolSettings,
        waits: Waits,
    ) -> Result<(SpoolWriter, SpoolReader, Recovered), SpoolError> {
        Self::open_for(settings, waits, &[])
    }

    /// The same, for a store of these shards, each with its replicas: what may be on others is
    /// held back, and noted is that it may be on these from now on.
    ///
    /// # Errors
    /// As [`Spool::open`].
    pub fn open_for(
        settings: &SpoolSettings,
        waits: Waits,
        shards: &[Vec<String>],
    ) -> Result<(SpoolWriter, SpoolReader, Recovered), SpoolError> {
        let files = settings.dir.as_ref().map(|dir| Arc::new(Folder::new(dir)) as _);
        let (shared, recovered) = prepare(settings, files, shards)?;
        let thread = |source| SpoolError::Thread { source };
        let syncer = match settings.fsync {
            Fsync::Interval(interval) if settings.dir.is_some() => {
                Some(Syncer::start(shared.clone(), interval).map_err(thread)?)
            }
            _ => None,
        };
        let writer = SpoolWriter::new(&shared, waits, syncer).map_err(thread)?;
        Ok((writer, SpoolReader::new(&shared), recovered))
    }
}

/// The books and the files, without threads.
pub fn prepare(
    settings: &SpoolSettings,
    files: Option<Arc<dyn FileSystem>>,
    shards: &[Vec<String>],
) -> Result<(Arc<Shared>, Recovered), SpoolError> {
    let figures = SpoolFigures {
        dir: files.as_ref().map(|files| files.name()),
        full: settings.full.label(),
        fsync: settings.fsync.label(),
        max_octets: settings.max_octets,
        memory_limit: settings.memory_octets,
        ..SpoolFigures::default()
    };
    let mut core = Core::new(settings.memory_octets, figures);
    let mut recovered = Recovered::default();
    let mut disk = None;
    if let Some(files) = files {
        match files.lock() {
            Ok(lock) => {
                let mut recovery = Recovery::default();
                recovery.read(&*files)?;
                let elsewhere = match shards {
                    [] => Elsewhere::default(),
                    _ => recovery.compare(&*files, shards)?,
                };
                let next = recovery.next;
                recovery.enter(&*files, &elsewhere, &mut core, &mut recovered);
                recovered.held_for = elsewhere.missing;
                let sizes = (settings.max_octets, settings.segment_octets);
                disk = Some(Disk::new(files, lock, sizes, settings.fsync, next));
            }
            Err(error) => unlocked(&*files, error, &mut core)?,
        }
    }
    core.figures.recovered = recovered.waiting.batches;
    let shared = Arc::new(Shared::new(core, disk, settings.full));
    // Segments with nothing left.
    shared.sync_all();
    Ok((shared, recovered))
}

/// A disk that is full or fails is no reason not to meter; a folder that cannot be ours is.
fn unlocked(files: &dyn FileSystem, error: io::Error, core: &mut Core) -> Result<(), SpoolError> {
    let path = files.name();
    if error.kind() == io::ErrorKind::WouldBlock {
        return Err(SpoolError::Locked { path });
    }
    let passing = [Errno::NOSPC, Errno::DQUOT, Errno::IO];
    if !passing.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) {
        return Err(SpoolError::Folder { path, source: error });
    }
    tracing::warn!("the spool {path} cannot be opened: {error}; batches are held in memory only");
    core.figures.trouble = Some(error.to_string());
    core.figures.write_errors += 1;
    Ok(())
}

/// What the files say.
#[derive(Debug, Default)]
struct Recovery {
    scans: BTreeMap<u64, Scan>,
    next: u64,
    foreign: Vec<String>,
    damaged_octets: u64,
}

impl Recovery {
    fn read(&mut self, files: &dyn FileSystem) -> Result<(), SpoolError> {
        let names = match files.list() {
            Ok(names) => names,
            Err(source) if !is_damage(&source) => {
                return Err(SpoolError::Folder { path: files.name(), source });
            }
            Err(error) => {
                tracing::warn!("the spool {} cannot be read: {error}", files.name());
                Vec::new()
            }
        };
        let mut numbers = BTreeSet::new();
        let mut spent = Vec::new();
        for name in names {
            match Name::parse(&name) {
                Some(Name::Segment(number) | Name::Index(number)) => drop(numbers.insert(number)),
                Some(Name::Spent(number)) => spent.push((number, name)),
                Some(Name::Damaged) => {
                    let length = files.open(&name).and_then(|file| file.length());
                    self.damaged_octets += length.unwrap_or(0);
                }
                None if [LOCK, SHARDS, NEW_SHARDS].contains(&&*name) => {}
                None => {
                    tracing::warn!("{name} in the spool {} is left alone", files.name());
                    self.foreign.push(name);
                }
            }
        }
        for (number, name) in spent {
            // It was being removed: its index says nothing any more.
            let _ = files.remove(&index_name(number));
            let _ = files.remove(&name);
            numbers.remove(&number);
            self.next = self.next.max(number + 1);
        }
        for number in numbers {
            self.next = self.next.max(number + 1);
            match Scan::of(files, number) {
                Ok(scan) => drop(self.scans.insert(number, scan)),
                Err(Unread::Refused(file, source)) => {
                    return Err(SpoolError::Unread { path: files.name(), file, source });
                }
                Err(Unread::Version(version)) => {
                    let name = super::segment::segment_name(number);
                    tracing::warn!(
                        "{name} in the spool {} has version {version}, which this agent does not \
                         know: it is left alone",
                        files.name()
                    );
                    self.foreign.push(name);
                }
            }
        }
        Ok(())
    }

    fn compare(
        &mut self,
        files: &dyn FileSystem,
        shards: &[Vec<String>],
    ) -> Result<Elsewhere, SpoolError> {
        let oldest = self.scans.keys().next().copied();
        compare(files, shards, oldest, &mut self.next)
    }

    fn enter(
        self,
        files: &dyn FileSystem,
        elsewhere: &Elsewhere,
        core: &mut Core,
        recovered: &mut Recovered,
    ) {
        let settled: BTreeSet<Uuid> =
            self.scans.values().flat_map(|scan| scan.settled.iter().copied()).collect();
        let last = self.scans.keys().next_back().copied();
        let ends: BTreeSet<Uuid> = self.scans.values().filter_map(Scan::last).collect();
        let records = self.scans.values().flat_map(|scan| &scan.records);
        let headers: BTreeMap<Uuid, RecordHeader> = records
            .filter(|record| ends.contains(&record.header.id))
            .map(|record| (record.header.id, record.header.clone()))
            .collect();
        let mut order: Vec<Uuid> = Vec::new();
        let mut batches: BTreeMap<Uuid, Found> = BTreeMap::new();
        for (number, scan) in &self.scans {
            let book = Book { octets: scan.octets, damaged: scan.damaged, ..Book::default() };
            core.segments.insert(*number, book);
            for Record { header, place, .. } in &scan.records {
                if settled.contains(&header.id) {
                    continue;
                }
                let found = batches.entry(header.id).or_insert_with(|| {
                    order.push(header.id);
                    Found { header: header.clone(), places: Vec::new(), segments: Vec::new() }
                });
                found.places.extend(place);
                found.segments.push(*number);
            }
            if let Some(unknown) = scan.unknown(&headers) {
                let torn = Some(*number) == last && !scan.damaged;
                lose(core, recovered, torn, &unknown);
                keep_note(files, *number, &Note::Told(unknown));
            }
        }
        let mut names = BTreeSet::new();
        for id in order {
            let Some(mut found) = batches.remove(&id) else { continue };
            for (name, _) in &mut found.header.counts {
                *name = interned(&mut names, name);
            }
            if found.places.is_empty() {
                let torn = found.segments.iter().all(|number| Some(*number) == last);
                let mut lost = Contents::default();
                lost.add(found.header.rows, &found.header.counts);
                lose(core, recovered, torn, &lost);
                let note = if torn { Note::Settled(id) } else { Note::Lost(id) };
                for number in found.segments {
                    keep_note(files, number, &note);
                }
            } else {
                let RecordHeader { rows, counts, .. } = &found.header;
                recovered.waiting.add(*rows, counts);
                recovered.ids.insert(id);
                // The first, and so before all that are not held.
                let held = found.segments[0] < elsewhere.below;
                if held {
                    recovered.held.add(*rows, counts);
                }
                let number = core.insert(found.entry(), None, false);
                if held {
                    core.pass_over(number);
                }
            }
        }
        core.figures.damaged_octets = self.damaged_octets;
        recovered.foreign = self.foreign;
    }
}

/// A batch, wherever it is.
struct Found {
    header: RecordHeader,
    places: Vec<Place>,
    /// Where it is or was.
    segments: Vec<u64>,
}

impl Found {
    fn entry(self) -> Entry {
        let RecordHeader { id, table, exported_at, rows, octets, counts, .. } = self.header;
        let places = self.places;
        let state = State::Waiting;
        let in_doubt = true;
        Entry {
            id,
            table,
            exported_at,
            rows,
            octets,
            counts,
            places,
            memory: None,
            state,
            in_doubt,
        }
    }
}

fn lose(core: &mut Core, recovered: &mut Recovered, torn: bool, lost: &Contents) {
    let reason = if torn { LossReason::Torn } else { LossReason::Corrupt };
    core.figures.corrupt += lost.batches;
    core.figures.lost.add(reason, lost);
    recovered.lost.add(reason, lost);
    let total = lost.total();
    tracing::warn!(
        "{} batches of the spool with {} rows, {} packets and {} octets cannot be read back and \
         are lost ({})",
        lost.batches,
        lost.rows,
        total.packets,
        total.octets,
        reason.label()
    );
}

/// What was told is not told again by the next agent. A segment without an index gets one.
fn keep_note(files: &dyn FileSystem, segment: u64, note: &Note) {
    let name = index_name(segment);
    let index = files.open(&name).or_else(|_| {
        let index = files.create(&name)?;
        append_all(&*index, &head(segment))?;
        Ok::<_, io::Error>(index)
    });
    let written = index.and_then(|index| append_all(&*index, &note.encode()));
    if let Err(error) = written {
        tracing::warn!("{name} in the spool {} cannot be written: {error}", files.name());
    }
}

fn interned(names: &mut BTreeSet<Arc<str>>, name: &Arc<str>) -> Arc<str> {
    if let Some(known) = names.get(name) {
        return known.clone();
    }
    names.insert(name.clone());
    name.clone()
}
