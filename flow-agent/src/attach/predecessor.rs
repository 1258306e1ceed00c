//! Taking the hooks over from the agent that runs: the other side of [`super::handover`].
//!
//! Enters: the folder of pins, in which each living agent has one of its own, locked. Leaves: the
//! links of those agents, which [`Hooks`] attaches to before it makes links of its own. It must hold
//! that nothing is changed before this agent could load everything it needs, and that it waits
//! for the end of the other before it opens what that one has open: spool, status, state.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aya::programs::links::{FdLink, PinnedLink};
use crossbeam::channel::never;
use rustix::fs::{FlockOperation, flock};

use super::handover::{READY, REQUEST, SUCCESSOR, TAKEN, clear};
use super::stale::end_counting;
use super::version::has_tcx;
use super::{AttachError, Hooks, Interface, PinFolder};
use crate::failpoint::failpoint;

/// The links of agents that run, by the names of [`super::link::pin_name`].
pub type Inherited = HashMap<String, FdLink>;

/// For an agent that looks every 100 ms and pins some hundred links.
const ANSWERING: Duration = Duration::from_secs(5);
/// For an agent that delivers to a slow store before it ends.
const ENDING: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(10);

/// An agent that runs.
pub struct Predecessor {
    folder: PathBuf,
    /// Open, so that its lock can be asked for when the folder has gone.
    lock: File,
    names: Vec<String>,
    /// Held while this agent takes over: without it the other takes its hooks back.
    held: Option<File>,
}

impl Predecessor {
    /// The agents that run with a folder below `parent`. To be asked before this agent has one.
    ///
    /// # Errors
    /// There is no such folder, or the kernel is too old for it.
    pub fn all(parent: Option<&Path>) -> Result<Vec<Self>, AttachError> {
        let parent = parent.ok_or_else(|| AttachError::TakeOver {
            folder: "pin_dir".into(),
            problem: "it is empty, so agents do not find each other; say a folder in a BPF file \
                      system, as for the agent that runs"
                .into(),
        })?;
        let living = PinFolder::living(parent)?;
        if !living.is_empty() && !has_tcx() {
            return Err(AttachError::TakeOver {
                folder: parent.display().to_string(),
                problem: "before Linux 6.6 TC programs have no links to hand over; stop the agent \
                          that runs, then start this one"
                    .into(),
            });
        }
        let new = |(folder, lock)| Self { folder, lock, names: Vec::new(), held: None };
        Ok(living.into_iter().map(new).collect())
    }

    /// Puts the programs of `hooks` in the place of those of the agents that run, and waits
    /// until the ones that have lost theirs have ended.
    ///
    /// # Errors
    /// One does not answer, or an interface refuses: then they go on as before.
    pub fn relieve(
        mut all: Vec<Self>,
        hooks: &mut Hooks,
        interfaces: Vec<Interface>,
    ) -> Result<(), AttachError> {
        let mut inherited = Inherited::new();
        for agent in &mut all {
            inherited.extend(agent.ask()?);
        }
        failpoint!("take_over::inherited");
        hooks.inherit(inherited);
        hooks.want(interfaces, Instant::now());
        while hooks.is_busy() {
            hooks.step(Instant::now());
        }
        hooks.started()?;
        failpoint!("take_over::replaced");
        let left = hooks.not_inherited();
        for agent in all {
            if agent.names.iter().all(|name| left.contains_key(name)) {
                // Its interfaces are none of ours.
                clear(&agent.folder.join(SUCCESSOR));
            } else {
                agent.end()?;
            }
        }
        Ok(())
    }

    /// Asks for its links; there are none if it ends meanwhile.
    fn ask(&mut self) -> Result<Vec<(String, FdLink)>, AttachError> {
        match self.ask_living() {
            // What is missing, it has removed at its end.
            Err(_) if self.has_ended()? => {
                tracing::warn!("{}: its agent has ended meanwhile", self.folder.display());
                self.names.clear();
                Ok(Vec::new())
            }
            asked => asked,
        }
    }

    fn ask_living(&mut self) -> Result<Vec<(String, FdLink)>, AttachError> {
        let place = self.folder.join(SUCCESSOR);
        let begin = Instant::now();
        self.held = Some(self.reserve(&place, begin)?);
        failpoint!("take_over::asked");
        while !place.join(READY).is_dir() {
            if !self.may_answer(begin)? {
                clear(&place);
                return Err(self.error(&format_args!(
                    "the agent that has it does not hand over within {} s; stop it, then start \
                     this one",
                    ANSWERING.as_secs()
                )));
            }
        }
        failpoint!("take_over::ready");
        let mut links = Vec::new();
        for entry in fs::read_dir(&place).map_err(|error| self.error(&error))? {
            let path = entry.map_err(|error| self.error(&error))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if path.is_dir() {
                continue;
            }
            let name = name.to_owned();
            let link = PinnedLink::from_pin(&path).map_err(|error| self.error(&error))?;
            links.push((name.clone(), link.unpin().map_err(|error| self.error(&error))?));
            self.names.push(name);
        }
        Ok(links)
    }

    /// Locks the place for a successor and leaves the request there. One that was killed may have
    /// left its own: the agent that runs soon removes it.
    fn reserve(&self, place: &Path, begin: Instant) -> Result<File, AttachError> {
        let reserved = || -> io::Result<File> {
            match fs::create_dir(place) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            let held = File::open(place)?;
            flock(&held, FlockOperation::NonBlockingLockExclusive)?;
            fs::create_dir(place.join(REQUEST))?;
            Ok(held)
        };
        loop {
            match reserved() {
                Ok(held) => return Ok(held),
                Err(_) if self.may_answer(begin)? => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(self.error(&"a third flow-agent is about to take over"));
                }
                Err(error) => return Err(self.error(&error)),
            }
        }
    }

    /// Waits a moment for it; false when it has ended or takes too long.
    fn may_answer(&self, begin: Instant) -> Result<bool, AttachError> {
        let _ = never::<()>().recv_timeout(LOOK);
        Ok(begin.elapsed() < ANSWERING && !self.has_ended()?)
    }

    /// True when it has ended, by itself or not: its hooks are free by then.
    fn has_ended(&self) -> Result<bool, AttachError> {
        if flock(&self.lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(false);
        }
        let unlocked = flock(&self.lock, FlockOperation::Unlock);
        unlocked.map_err(|errno| self.error(&io::Error::from(errno)))?;
        if let Some(killed) = PinFolder::lock(self.folder.clone())? {
            end_counting(&killed, &[]).map_err(|error| self.error(&error))?;
        }
        Ok(true)
    }

    /// Says that it is relieved, and waits until it has ended.
    fn end(self) -> Result<(), AttachError> {
        let said = self.folder.join(SUCCESSOR).join(TAKEN);
        match fs::create_dir(said) {
            // Stopped meanwhile, it has removed the folder.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.error(&error)),
            _ => {}
        }
        failpoint!("take_over::told");
        let folder = self.folder.display();
        tracing::info!("{folder}: its hooks are taken over; waiting for its agent to end");
        let begin = Instant::now();
        while flock(&self.lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            if begin.elapsed() > ENDING {
                return Err(self.error(&"its agent does not end; stop it"));
            }
            let _ = never::<()>().recv_timeout(LOOK);
        }
        tracing::info!("{folder}: its agent has ended after {} ms", begin.elapsed().as_millis());
        Ok(())
    }

    fn error(&self, problem: &dyn ToString) -> AttachError {
        let folder = self.folder.display().to_string();
        AttachError::TakeOver { folder, problem: problem.to_string() }
    }
}
