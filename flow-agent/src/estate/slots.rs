//! Two slots for a state in pages: one is in force, the other takes what comes next.
//!
//! A state is prepared in the slot that is not in force, and a head page names both, with a token
//! of whoever can tell later which of them counts; then what it describes is done; then it is put
//! in force. Each change of the head is one write of one page, so a process that is killed leaves
//! the state of before, or both.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytemuck::{Pod, Zeroable};

use super::memory::{Memory, PAGE, Page};

/// "FEST" and the version of the states.
const MAGIC: u32 = 0x4645_5301;

/// The head page.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
struct Head {
    magic: u32,
    /// The slot in force.
    slot: u32,
    /// 1 while the other one is prepared.
    prepared: u32,
    /// Octets in each slot.
    lengths: [u32; 2],
    token: [u32; 4],
}

/// Two slots in a part of a memory.
#[derive(Debug)]
pub struct Slots {
    memory: Arc<Mutex<Box<dyn Memory>>>,
    /// The page of the head; the slots follow.
    first: u32,
    /// Of one slot.
    pages: u32,
    head: Head,
}

/// What is in slots.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The state in force.
    pub state: Vec<u8>,
    /// The one that was prepared, and its token.
    pub prepared: Option<(Vec<u8>, u128)>,
}

impl Slots {
    /// Divides a memory into equal parts.
    pub fn divide(memory: Box<dyn Memory>, parts: usize) -> Vec<Self> {
        let part = memory.pages() / parts as u32;
        let memory = Arc::new(Mutex::new(memory));
        let slots = |number| Self {
            memory: memory.clone(),
            first: number * part,
            pages: part.saturating_sub(1) / 2,
            head: Head { magic: MAGIC, ..Head::default() },
        };
        (0..parts as u32).map(slots).collect()
    }

    /// Octets that a slot takes.
    pub fn capacity(&self) -> usize {
        self.pages as usize * PAGE
    }

    /// Writes what may be in force next.
    ///
    /// # Errors
    /// It is too large, or the system refuses; what is in force stays.
    pub fn prepare(&mut self, octets: &[u8], token: u128) -> io::Result<()> {
        if octets.len() > self.capacity() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let other = 1 - self.head.slot;
        for (number, part) in (0..).zip(octets.chunks(PAGE)) {
            let mut page = [0; PAGE];
            page[..part.len()].copy_from_slice(part);
            self.memory().write(self.page(other) + number, &page)?;
        }
        let mut head = Head { prepared: 1, token: bytemuck::cast(token), ..self.head };
        head.lengths[other as usize] = octets.len() as u32;
        self.write_head(head)
    }

    /// Puts in force what was prepared, if anything was.
    ///
    /// # Errors
    /// The system refuses; it is prepared still.
    pub fn commit(&mut self) -> io::Result<()> {
        if self.head.prepared == 0 {
            return Ok(());
        }
        self.write_head(Head { slot: 1 - self.head.slot, prepared: 0, ..self.head })
    }

    /// What a process before this one left; none if nothing.
    ///
    /// # Errors
    /// The system refuses, or it was left by a version that writes it otherwise.
    pub fn read(&self) -> io::Result<Option<Found>> {
        let page = self.memory().read(self.first)?;
        let head: Head = *bytemuck::from_bytes(&page[..size_of::<Head>()]);
        if head.magic == 0 {
            return Ok(None);
        }
        let other = 1_u32.checked_sub(head.slot);
        let (MAGIC, Some(other)) = (head.magic, other) else {
            let problem = format!("it begins with {:x}, this agent knows {MAGIC:x}", head.magic);
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        };
        let state = self.slot(head, head.slot)?;
        let prepared = match head.prepared {
            0 => None,
            _ => Some((self.slot(head, other)?, bytemuck::cast(head.token))),
        };
        Ok(Some(Found { state, prepared }))
    }

    fn slot(&self, head: Head, slot: u32) -> io::Result<Vec<u8>> {
        let length = (head.lengths[slot as usize] as usize).min(self.capacity());
        let mut octets = Vec::with_capacity(length.next_multiple_of(PAGE));
        for number in 0..length.div_ceil(PAGE) as u32 {
            octets.extend(self.memory().read(self.page(slot) + number)?);
        }
        octets.truncate(length);
        Ok(octets)
    }

    fn write_head(&mut self, head: Head) -> io::Result<()> {
        let mut page: Page = [0; PAGE];
        page[..size_of::<Head>()].copy_from_slice(bytemuck::bytes_of(&head));
        self.memory().write(self.first, &page)?;
        self.head = head;
        Ok(())
    }

    fn page(&self, slot: u32) -> u32 {
        self.first + 1 + slot * self.pages
    }

    fn memory(&self) -> MutexGuard<'_, Box<dyn Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
