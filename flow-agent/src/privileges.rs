//! Privileges: which capabilities are kept once the agent meters.
//!
//! Enters: what the configuration chooses and what is to be metered. Leaves: threads without
//! capabilities. Those belong to threads, and a thread begins with those of the one that starts
//! it. So it must hold that every thread is started by [`Privileges::without`], but for the one
//! that attaches; that one and the drain thread give theirs up once the programs are attached.

use std::thread;

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use crate::attach::{InterfaceSpec, Selection};

/// What the configuration says (`[run] capabilities`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CapabilityChoice {
    /// What is not needed any more is given up.
    #[default]
    Auto,
    /// Everything is given up but what detaching takes.
    Drop,
    /// Nothing is given up.
    Keep,
}

impl CapabilityChoice {
    /// As it is configured.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Drop => "drop",
            Self::Keep => "keep",
        }
    }
}

/// What is kept, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    /// What the thread that attaches keeps; none: every thread keeps everything.
    kept: Option<CapabilitySet>,
    why: &'static str,
}

/// The system that the agent runs on, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct System {
    /// The process is root's.
    pub root: bool,
    /// The kernel detaches TC programs by itself (Linux 6.6).
    pub tcx: bool,
}

/// Gives capabilities up; clones go by the same plan.
#[derive(Clone, Copy, Debug)]
pub struct Privileges {
    choice: CapabilityChoice,
    plan: Plan,
}

impl Privileges {
    /// What is given up by an agent that meters `selection`.
    pub fn new(choice: CapabilityChoice, selection: &Selection, system: System) -> Self {
        Self { choice, plan: plan(choice, selection, system) }
    }

    /// As it is configured.
    pub const fn choice(&self) -> CapabilityChoice {
        self.choice
    }

    /// Why the capabilities that are kept are kept.
    pub const fn why(&self) -> &'static str {
        self.plan.why
    }

    /// Does something that needs no capability in a thread without any, and so starts no thread
    /// that has one.
    pub fn without<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        if self.plan.kept.is_none() {
            return work();
        }
        let inside = || {
            lower(CapabilitySet::empty());
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// The calling thread attaches nothing.
    pub fn give_up(&self) {
        if self.plan.kept.is_some() {
            lower(CapabilitySet::empty());
        }
    }

    /// The calling thread has attached what there is, and keeps what it needs for what comes.
    pub fn attached(&self) {
        let why = self.plan.why;
        match self.plan.kept {
            None => tracing::info!("capabilities are kept: {why}"),
            Some(kept) => {
                lower(kept);
                let names = names(kept);
                if names.is_empty() {
                    tracing::info!("capabilities are given up: {why}");
                } else {
                    let names = names.join(", ");
                    tracing::info!("capabilities are given up, but for {names}: {why}");
                }
            }
        }
    }
}

/// What is kept for these interfaces.
fn plan(choice: CapabilityChoice, selection: &Selection, system: System) -> Plan {
    let kept = |kept, why| Plan { kept: Some(kept), why };
    let exact =
        !selection.include.is_empty() && selection.include.iter().all(InterfaceSpec::is_exact);
    let elsewhere = selection.include.iter().any(|it| !it.is_in_own_namespace());
    match choice {
        CapabilityChoice::Keep => Plan { kept: None, why: "capabilities = \"keep\"" },
        CapabilityChoice::Auto if system.root => Plan {
            kept: None,
            why: "the agent is root's; give it a user of its own, as its unit does, or set \
                  capabilities = \"drop\"",
        },
        CapabilityChoice::Auto if elsewhere => {
            Plan { kept: None, why: "interfaces in other network namespaces are followed" }
        }
        _ if !system.tcx => {
            kept(CapabilitySet::NET_ADMIN, "before Linux 6.6 TC programs are detached with it")
        }
        CapabilityChoice::Drop => kept(CapabilitySet::empty(), "capabilities = \"drop\""),
        CapabilityChoice::Auto if exact => {
            kept(CapabilitySet::empty(), "every interface was asked for by its name")
        }
        CapabilityChoice::Auto => kept(
            CapabilitySet::NET_ADMIN,
            "interfaces that come later are looked at for another agent's programs",
        ),
    }
}

/// Takes all capabilities but these from the calling thread, for good.
fn lower(kept: CapabilitySet) {
    // What it does not have it cannot keep.
    let had = rustix::thread::capabilities(None).map(|sets| sets.permitted);
    let result = had.and_then(|had| {
        let left = had & kept;
        let inheritable = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective: left, permitted: left, inheritable })
    });
    if let Err(error) = result {
        let thread = thread::current().name().unwrap_or("without a name").to_owned();
        tracing::warn!("thread {thread} keeps its capabilities: capset is refused: {error}");
    }
}

/// What the threads of this process may still do, as the kernel says: the names of the threads
/// that have capabilities, and these.
pub fn held() -> std::io::Result<Vec<(String, Vec<String>)>> {
    let mut held = Vec::new();
    for task in std::fs::read_dir("/proc/self/task")? {
        // It may have ended since.
        let Ok(text) = std::fs::read_to_string(task?.path().join("status")) else { continue };
        let value = |key| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let bits = value("CapPrm:").and_then(|bits| u64::from_str_radix(bits, 16).ok());
        let names = names(CapabilitySet::from_bits_retain(bits.unwrap_or(0)));
        if !names.is_empty() {
            held.push((value("Name:").unwrap_or("").to_owned(), names));
        }
    }
    Ok(held)
}

/// As capabilities(7) has them.
fn names(set: CapabilitySet) -> Vec<String> {
    set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: System = System { root: false, tcx: true };

    fn kept(choice: CapabilityChoice, specs: &[&str], system: System) -> Option<Vec<String>> {
        let include = specs.iter().map(|spec| spec.parse().expect("valid")).collect();
        let selection = Selection { include, ..Selection::default() };
        plan(choice, &selection, system).kept.map(names)
    }

    #[test]
    fn what_can_come_later_decides_what_is_kept() {
        use CapabilityChoice::{Auto, Drop, Keep};
        let admin = Some(vec!["CAP_NET_ADMIN".to_owned()]);
        let root = System { root: true, ..OURS };
        let old = System { tcx: false, ..OURS };
        for (choice, specs, system, expected) in [
            (Auto, &["eth0", "eth1:tc"][..], OURS, Some(vec![])),
            (Auto, &["eth0", "eth*"], OURS, admin.clone()),
            (Auto, &[], OURS, admin.clone()),
            (Auto, &["eth0", "blue/eth0"], OURS, None),
            (Auto, &["b*/eth0"], OURS, None),
            (Auto, &["eth0"], root, None),
            (Auto, &["eth0"], old, admin.clone()),
            (Drop, &[], OURS, Some(vec![])),
            (Drop, &["blue/eth0"], root, Some(vec![])),
            (Drop, &["eth0"], old, admin),
            (Keep, &["eth0"], OURS, None),
        ] {
            assert_eq!(kept(choice, specs, system), expected, "{choice:?} {specs:?} {system:?}");
        }
    }

    #[test]
    fn what_a_thread_has_given_up_the_threads_it_starts_do_not_have() {
        let drop = CapabilityChoice::Drop;
        let privileges = Privileges::new(drop, &Selection::default(), OURS);
        let mine = || rustix::thread::capabilities(None).expect("allowed");
        let before = mine();
        let (inside, started) = privileges.without(|| {
            let started = thread::spawn(mine).join().expect("it ends");
            (mine(), started)
        });
        for sets in [inside, started] {
            assert_eq!(
                [sets.effective, sets.permitted, sets.inheritable],
                [CapabilitySet::empty(); 3]
            );
        }
        assert_eq!(mine(), before, "the thread that asked keeps its own");
    }
}
