//! What must not outlive this process: child processes and network namespaces.
//!
//! Their owners remove them when they are dropped, also on panic. A signal runs
//! no destructors, so they are also listed here, for the demo's signal handler.

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// Where iproute2 keeps the names of network namespaces.
pub const NAMES: &str = "/var/run/netns";
/// How long a child may take to end by itself.
const GRACE: Timespec = Timespec { tv_sec: 3, tv_nsec: 0 };

/// A thing to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leftover {
    /// A child process, by its id.
    Child(u32),
    /// A network namespace, by its name.
    Namespace(String),
}

static LEFTOVERS: Mutex<Vec<Leftover>> = Mutex::new(Vec::new());

/// Lists a thing; its owner calls [`forget`] when it has removed it.
pub fn register(leftover: Leftover) {
    list().push(leftover);
}

/// Takes a thing off the list.
pub fn forget(leftover: &Leftover) {
    list().retain(|listed| listed != leftover);
}

/// Removes all that is listed and ends the process. The list stays locked, so that
/// nothing new comes up meanwhile.
pub fn exit(code: i32) -> ! {
    let list = list();
    let children = list.iter().filter_map(|leftover| match leftover {
        Leftover::Child(id) => pid(*id),
        Leftover::Namespace(_) => None,
    });
    let children: Vec<Pid> = children.collect();
    // A child that has ended by itself cannot be signalled: nothing to do then.
    for child in &children {
        let _ = kill_process(*child, Signal::TERM);
    }
    for child in &children {
        if !ended(*child) {
            let _ = kill_process(*child, Signal::KILL);
        }
    }
    for leftover in list.iter() {
        if let Leftover::Namespace(name) = leftover {
            delete_namespace(name);
        }
    }
    std::process::exit(code)
}

/// True if the child has ended, or does so within a grace time.
fn ended(child: Pid) -> bool {
    let Ok(fd) = pidfd_open(child, PidfdFlags::empty()) else {
        return true;
    };
    let mut polled = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut polled, Some(&GRACE)).is_ok_and(|ready| ready > 0)
}

/// Deletes a named network namespace, and with it the interfaces in it.
pub fn delete_namespace(name: &str) {
    if !Path::new(NAMES).join(name).exists() {
        return;
    }
    let deleted = Command::new("ip").args(["netns", "delete", name]).output();
    if !deleted.is_ok_and(|output| output.status.success()) {
        eprintln!("cannot delete the network namespace {name}: try `ip netns delete {name}`");
    }
}

/// A process id as system calls take it.
pub fn pid(id: u32) -> Option<Pid> {
    Pid::from_raw(id.cast_signed())
}

fn list() -> MutexGuard<'static, Vec<Leftover>> {
    // A panic while the list was held cannot have left it half changed.
    LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner)
}
