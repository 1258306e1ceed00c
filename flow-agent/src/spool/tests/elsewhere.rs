//! Files that the system refuses to open, and shards of the store that are not named any more.

use std::any::Any;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

use super::*;
use crate::spool::error::SpoolError;
use crate::spool::file_system::{OpenFile, Space};
use crate::spool::segment::{index_name, segment_name};
use crate::spool::shards::SHARDS;

/// The model, some of whose files may not be opened.
#[derive(Clone, Debug, Default)]
struct Refusing {
    model: Model,
    names: Arc<Mutex<BTreeSet<String>>>,
}

impl Refusing {
    fn refuse(&self, names: &[String]) {
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) =
            names.iter().cloned().collect();
    }

    fn open_spool(&self) -> Fixture {
        Fixture::of(Some(Arc::new(self.clone())), &settings(Fsync::Always))
    }
}

impl FileSystem for Refusing {
    fn name(&self) -> String {
        self.model.name()
    }
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.model.lock()
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.model.list()
    }
    fn create(&self, name: &str) -> io::Result<Box<dyn OpenFile>> {
        self.model.create(name)
    }
    fn open(&self, name: &str) -> io::Result<Box<dyn OpenFile>> {
        if self.names.lock().unwrap_or_else(PoisonError::into_inner).contains(name) {
            return Err(Errno::ACCESS.into());
        }
        self.model.open(name)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.model.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.model.remove(name)
    }
    fn sync_folder(&self) -> io::Result<()> {
        self.model.sync_folder()
    }
    fn space(&self) -> io::Result<Space> {
        self.model.space()
    }
}

/// Three batches, each in a segment of its own.
fn three() -> Refusing {
    let files = Refusing::default();
    let mut fixture = files.open_spool();
    for number in 0..3 {
        assert!(fixture.writer().append(batch(number, 3000)).kept.is_some());
    }
    files
}

#[test]
fn what_may_not_be_opened_is_not_called_damaged() {
    let files = three();
    let names = files.model.names();
    for name in [segment_name(1), index_name(1)] {
        files.refuse(std::slice::from_ref(&name));
        let opened = prepare(&settings(Fsync::Always), Some(Arc::new(files.clone())), &[]);
        let error = opened.map(|_| ()).expect_err("it may hold batches");
        assert!(matches!(&error, SpoolError::Unread { file, .. } if *file == name), "{error}");
        assert_eq!(error.exit(), crate::Exit::Privilege);
        assert_eq!(files.model.names(), names, "all is left as it was");
    }
    files.refuse(&[]);
    let mut fixture = files.open_spool();
    assert!(fixture.recovered.lost.is_empty());
    assert_eq!(handed_bits(&fixture.drain()), 0b111);
}

#[test]
fn what_cannot_be_read_now_holds_nothing_up_and_comes_later() {
    let files = three();
    let mut fixture = files.open_spool();
    files.refuse(&[segment_name(1)]);
    let mut handed = fixture.drain();
    assert_eq!(handed_bits(&handed), 0b101);
    files.refuse(&[]);
    let waits = fixture.reader.next();
    handed.extend(fixture.runtime.block_on(waits));
    assert_eq!(handed_bits(&handed), 0b111);
    for pending in handed {
        pending.acknowledge();
    }
    assert!(fixture.reader.losses().is_empty());
    assert!(files.model.names().is_empty(), "{:?}", files.model.names());
}

#[test]
fn what_cannot_be_read_at_the_end_is_for_the_next_agent() {
    let files = three();
    let mut fixture = files.open_spool();
    files.refuse(&[segment_name(0), segment_name(2)]);
    fixture.writer = None;
    for pending in fixture.drain() {
        pending.acknowledge();
    }
    let Fixture { mut reader, runtime, shared, .. } = fixture;
    assert!(runtime.block_on(reader.next()).is_none(), "it ends");
    assert!(reader.finish().is_empty());
    // On a busy machine a read that nobody waits for any more may still be under way, with the
    // lock: the runtime waits for it.
    drop((shared, runtime));
    files.refuse(&[]);
    let mut fixture = files.open_spool();
    assert!(fixture.recovered.lost.is_empty());
    assert_eq!(handed_bits(&fixture.drain()), 0b101);
}

/// Shards, each with its replicas.
fn opened_for(model: &Model, shards: &[&[&str]]) -> Fixture {
    let names = |replicas: &&[&str]| replicas.iter().map(|name| (*name).to_owned()).collect();
    let shards: Vec<Vec<String>> = shards.iter().map(names).collect();
    Fixture::of_shards(Some(Arc::new(model.clone())), &settings(Fsync::Always), &shards)
}

/// What is handed out and what is held back for these shards.
fn with_shards(model: &Model, shards: &[&[&str]]) -> (u64, Contents) {
    let mut fixture = opened_for(model, shards);
    let handed = handed_bits(&fixture.drain());
    (handed, fixture.recovered.held.clone())
}

#[test]
fn what_may_be_on_a_shard_that_is_not_named_is_sent_to_no_other() {
    let model = Model::default();
    let mut fixture = opened_for(&model, &[&["a", "a2"], &["b"]]);
    for number in 0..2 {
        assert!(fixture.writer().append(batch(number, 3000)).kept.is_some());
    }
    drop(fixture);
    assert_eq!(with_shards(&model, &[&["a2"], &["b"], &["c"]]), (0b11, contents(0)));
    let mut fixture = opened_for(&model, &[&["b"], &["c"]]);
    assert_eq!(fixture.recovered.held, contents(0b11));
    assert_eq!(fixture.recovered.waiting, contents(0b11));
    assert_eq!(fixture.recovered.held_for, ["a,a2", "a2"]);
    assert!(fixture.writer().append(batch(2, 3000)).kept.is_some());
    assert_eq!(handed_bits(&fixture.drain()), 0b100, "what is new goes on");
    drop(fixture);
    // They stay held, and what came since does not.
    assert_eq!(with_shards(&model, &[&["b"], &["c"]]), (0b100, contents(0b11)));
    let mut fixture = opened_for(&model, &[&["a"], &["c"], &["a2"], &["b"]]);
    let handed = fixture.drain();
    assert_eq!(handed_bits(&handed), 0b111);
    for pending in handed {
        pending.acknowledge();
    }
    drop(fixture);
    assert_eq!(with_shards(&model, &[&["d"]]), (0, contents(0)));
    assert_eq!(model.names(), [SHARDS], "nothing waits, so nothing is on the others");
}

#[test]
fn without_the_file_all_is_sent_and_a_damaged_one_holds_all() {
    let model = Model::default();
    let mut fixture = opened_for(&model, &[&["a"]]);
    assert!(fixture.writer().append(batch(0, 3000)).kept.is_some());
    drop(fixture);
    model.set(SHARDS, b"what is this\n".to_vec());
    assert_eq!(with_shards(&model, &[&["a"]]), (0, contents(1)));
    assert_eq!(with_shards(&model, &[&["a"]]), (0, contents(1)), "until a person removes it");
    assert!(model.take(SHARDS).is_some());
    assert_eq!(with_shards(&model, &[&["b"]]), (1, contents(0)));
}
