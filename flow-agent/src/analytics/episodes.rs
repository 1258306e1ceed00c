//! From findings to events: what belongs together is one event, and no kind floods the store.
//!
//! A finding opens an episode. While it goes on, its numbers grow and it is said again at most
//! once a minute (the same id, a higher revision). It is over when nothing has belonged to it
//! for the cool-down; the next finding about the same subject is another event.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;
use uuid::{NoContext, Timestamp, Uuid};

use super::bounded::{Bounded, Size};
use super::event::{Address, Event, Finding, Kind};
use super::interfaces::InterfaceId;
use super::message::message;

/// Episodes at the same time.
const LIMIT: usize = 4_096;
/// Between two revisions of an event.
const REVISE_NS: u64 = 60_000_000_000;
/// Events that are kept for whoever asks the agent.
const RECENT: usize = 100;
const HOUR_NS: f64 = 3.6e12;

/// What findings must share to belong to one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// What happened.
    pub kind: Kind,
    /// Who did it.
    pub src: Address,
    /// To whom.
    pub dst: Address,
    /// At which port.
    pub port: u16,
    /// By which protocol.
    pub protocol: u8,
    /// Where, if that matters; else 0.
    pub interface: InterfaceId,
}

#[derive(Debug)]
struct Episode {
    event: Event,
    touched_ns: u64,
    said_ns: u64,
    grown: bool,
    /// Beyond the budget: counted and not said.
    silent: bool,
}

/// How many events of a kind may be said: a bucket that refills.
#[derive(Clone, Copy, Debug)]
struct Budget {
    left: f64,
    filled_ns: u64,
}

/// How often each kind was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KindCount {
    /// Events that were said.
    pub events: u64,
    /// Events beyond `events_per_hour`.
    pub suppressed: u64,
}

/// The episodes that go on.
#[derive(Debug)]
pub struct Episodes {
    active: Bounded<Subject, Episode>,
    out: Vec<Event>,
    recent: VecDeque<Event>,
    budgets: [Budget; Kind::ALL.len()],
    counts: [KindCount; Kind::ALL.len()],
    cool_down_ns: u64,
    per_hour: f64,
}

impl Episodes {
    /// None yet; at most `per_hour` events of each kind, and as many at once.
    pub fn new(cool_down: Duration, per_hour: u32, now_ns: u64) -> Self {
        let per_hour = f64::from(per_hour);
        Self {
            active: Bounded::new(LIMIT),
            out: Vec::new(),
            recent: VecDeque::new(),
            budgets: [Budget { left: per_hour, filled_ns: now_ns }; Kind::ALL.len()],
            counts: [KindCount::default(); Kind::ALL.len()],
            cool_down_ns: cool_down.as_nanos() as u64,
            per_hour,
        }
    }

    /// Lets an episode grow; false if there is none.
    pub fn grow(
        &mut self,
        subject: &Subject,
        now_ns: u64,
        change: impl FnOnce(&mut Finding),
    ) -> bool {
        let cool_down = self.cool_down_ns;
        let Some(episode) = self.active.get_mut(subject) else { return false };
        if now_ns.saturating_sub(episode.touched_ns) >= cool_down {
            return false;
        }
        episode.touched_ns = now_ns;
        episode.grown = true;
        change(&mut episode.event.finding);
        true
    }

    /// Opens an episode; one that was there and is over is said for the last time.
    pub fn open(&mut self, subject: Subject, finding: Finding, now_ns: u64) {
        let silent = !self.spend(subject.kind, now_ns);
        let count = &mut self.counts[subject.kind as usize];
        if silent {
            count.suppressed += 1;
        } else {
            count.events += 1;
        }
        let message = message(&finding);
        let event = Event { id: id(now_ns), revision: 1, ts_ns: now_ns, finding, message };
        if !silent {
            self.say(event.clone());
        }
        let new = Episode { event, touched_ns: now_ns, said_ns: now_ns, grown: false, silent };
        let mut new = Some(new);
        let (episode, out) = self.active.entry(subject, || new.take().expect("made once"));
        // The place was taken by an episode that is over.
        let over = new.map(|new| std::mem::replace(episode, new));
        for old in out.map(|(_, old)| old).into_iter().chain(over) {
            self.revise(old);
        }
    }

    /// Says what has grown, and ends what is over.
    pub fn tick(&mut self, now_ns: u64) {
        let mut grown = Vec::new();
        let cool_down = self.cool_down_ns;
        for (_, episode) in self.active.iter_mut() {
            let over = now_ns.saturating_sub(episode.touched_ns) >= cool_down;
            if episode.grown && (over || now_ns.saturating_sub(episode.said_ns) >= REVISE_NS) {
                grown.push(revision(episode, now_ns));
            }
        }
        for event in grown.into_iter().flatten() {
            self.say(event);
        }
        self.active.expire(|episode| now_ns.saturating_sub(episode.touched_ns) >= cool_down);
    }

    /// Says everything that has grown: nothing comes after this.
    pub fn finish(&mut self, now_ns: u64) {
        let grown = self.active.iter_mut().filter_map(|(_, episode)| revision(episode, now_ns));
        let grown: Vec<_> = grown.collect();
        for event in grown {
            self.say(event);
        }
    }

    /// What was said since the last call.
    pub fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.out)
    }

    /// The last events, newest first, in their last revision.
    pub fn recent(&self) -> impl Iterator<Item = &Event> {
        self.recent.iter().rev()
    }

    /// How often a kind was found.
    pub fn count(&self, kind: Kind) -> KindCount {
        self.counts[kind as usize]
    }

    /// How full it is.
    pub fn size(&self) -> Size {
        self.active.size("episodes")
    }

    fn revise(&mut self, mut episode: Episode) {
        let touched = episode.touched_ns;
        if let Some(event) = revision(&mut episode, touched) {
            self.say(event);
        }
    }

    fn say(&mut self, event: Event) {
        if event.revision == 1 {
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back(event.clone());
        } else if let Some(known) = self.recent.iter_mut().find(|known| known.id == event.id) {
            *known = event.clone();
        }
        self.out.push(event);
    }

    fn spend(&mut self, kind: Kind, now_ns: u64) -> bool {
        let budget = &mut self.budgets[kind as usize];
        let refill = now_ns.saturating_sub(budget.filled_ns) as f64 / HOUR_NS * self.per_hour;
        budget.left = (budget.left + refill).min(self.per_hour);
        budget.filled_ns = now_ns.max(budget.filled_ns);
        let enough = budget.left >= 1.0;
        if enough {
            budget.left -= 1.0;
        }
        enough
    }
}

/// The next revision of an episode that has grown.
fn revision(episode: &mut Episode, now_ns: u64) -> Option<Event> {
    if !std::mem::take(&mut episode.grown) || episode.silent {
        return None;
    }
    episode.said_ns = now_ns;
    episode.event.revision += 1;
    episode.event.message = message(&episode.event.finding);
    Some(episode.event.clone())
}

fn id(now_ns: u64) -> Uuid {
    let (seconds, ns) = (now_ns / 1_000_000_000, (now_ns % 1_000_000_000) as u32);
    Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, ns))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::analytics::event::{NONE, Severity};

    const SECOND: u64 = 1_000_000_000;

    fn finding(kind: Kind) -> Finding {
        Finding {
            kind,
            severity: Severity::Warning,
            interface: "eth0".into(),
            src: NONE,
            dst: NONE,
            port: 0,
            protocol: 6,
            service: "",
            value: 1.0,
            threshold: 1.0,
            count: 1,
            first_ns: 5,
            last_ns: 5,
            details: BTreeMap::new(),
        }
    }

    fn subject(kind: Kind, port: u16) -> Subject {
        Subject { kind, src: NONE, dst: NONE, port, protocol: 6, interface: 0 }
    }

    #[test]
    fn what_goes_on_is_one_event_with_revisions() {
        let mut episodes = Episodes::new(Duration::from_mins(15), 10, 0);
        let subject = subject(Kind::PortScan, 0);
        assert!(!episodes.grow(&subject, 0, |_| ()));
        episodes.open(subject, finding(Kind::PortScan), 0);
        for second in 1..300 {
            assert!(episodes.grow(&subject, second * SECOND, |f| f.add(5, second)));
            episodes.tick(second * SECOND);
        }
        let said = episodes.take();
        assert_eq!(said.len(), 5, "at once and then once a minute");
        assert!(said.iter().all(|event| event.id == said[0].id && event.ts_ns == said[0].ts_ns));
        assert_eq!(said.iter().map(|e| e.revision).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        episodes.tick(2_000 * SECOND);
        let last = episodes.take();
        assert_eq!(last.len(), 1, "how it ended");
        assert_eq!((last[0].finding.count, last[0].finding.last_ns), (300, 299));
        assert!(!episodes.grow(&subject, 2_000 * SECOND, |_| ()), "it is over");
        episodes.open(subject, finding(Kind::PortScan), 2_000 * SECOND);
        assert_ne!(episodes.take()[0].id, last[0].id);
        assert_eq!(episodes.count(Kind::PortScan).events, 2);
        assert_eq!(episodes.recent().count(), 2);
    }

    #[test]
    fn a_kind_beyond_its_budget_is_counted_and_not_said() {
        let mut episodes = Episodes::new(Duration::from_mins(15), 60, 0);
        for port in 0..10_000 {
            episodes.open(subject(Kind::NewListener, port), finding(Kind::NewListener), SECOND);
        }
        episodes.open(subject(Kind::SynFlood, 1), finding(Kind::SynFlood), SECOND);
        assert_eq!(episodes.take().len(), 61);
        let count = episodes.count(Kind::NewListener);
        assert_eq!((count.events, count.suppressed), (60, 9_940));
        assert_eq!(episodes.size().entries, LIMIT);
        assert_eq!(episodes.size().forgotten, 10_001 - LIMIT as u64);
        // Two minutes later two more.
        for port in 0..10 {
            let found = finding(Kind::NewListener);
            episodes.open(subject(Kind::NewListener, port), found, 122 * SECOND);
        }
        assert_eq!(episodes.take().len(), 2);
    }
}
