//! Which server gets the next batch.
//!
//! Enters: what became of requests, and the time. Leaves: a place (shard and replica). It holds
//! that a batch in doubt stays on its shard, that a server that does not answer is left alone for
//! a while as long as there is another one, and that the first one of a shard is gone back to
//! when it has answered a probe. No time is read here, nothing is sent.

use std::time::{Duration, Instant};

use sha1::{Digest, Sha1};

/// A server that failed is left alone this long, twice as long each time,
const FIRST_REST: Duration = Duration::from_secs(1);
/// but no longer than this.
const LONGEST_REST: Duration = Duration::from_secs(30);
/// So long a shard without a server that answers is waited for before another one gets what was
/// meant for it: a restart should not scatter the rows of an exporter.
pub(super) const SHARD_PATIENCE: Duration = Duration::from_secs(30);

/// Which shard gets a batch that was never sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// The same for all batches of an exporter, by its name.
    #[default]
    Consistent,
    /// One after the other.
    RoundRobin,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The server answered, even if it refused.
    Answered,
    /// It did not, or cannot work now.
    Away,
}

/// A shard, and one of its replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Counted from 0, as they are configured.
    pub shard: usize,
    /// Counted from 0, as they are configured.
    pub replica: usize,
}

/// A server as the status shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointView {
    /// Where in the configuration.
    pub place: Place,
    /// Scheme, host, port and database, without credentials.
    pub url: String,
    /// `up`, `down`, or `unknown` before the first answer.
    pub state: &'static str,
    /// True for the shard that this exporter's batches go to first.
    pub home: bool,
    /// Requests that came to nothing, since the start.
    pub failures: u64,
    /// Connections that were begun, since the start.
    pub connects: u64,
    /// What the last one of the failures said.
    pub last_error: Option<String>,
}

/// What is known of the servers.
#[derive(Debug)]
pub struct Board {
    shards: Vec<Shard>,
    /// The shards by how near they are to this exporter.
    order: Vec<usize>,
    placement: Placement,
    /// Batches that were placed by turns.
    turns: usize,
}

#[derive(Debug)]
struct Shard {
    replicas: Vec<Health>,
    /// Since when none of its servers answers.
    down_since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Health {
    answered: bool,
    /// Without an answer between.
    failures_in_a_row: u32,
    failures: u64,
    /// It failed, and is left alone until then.
    rests_until: Option<Instant>,
    last_error: Option<String>,
}

impl Board {
    /// Over shards with these names of their replicas.
    pub fn new(shards: &[Vec<&str>], exporter: &str, placement: Placement) -> Self {
        let mut order: Vec<usize> = (0..shards.len()).collect();
        order.sort_by_key(|shard| std::cmp::Reverse(nearness(exporter, &shards[*shard])));
        let shards = shards.iter().map(|replicas| Shard {
            replicas: replicas.iter().map(|_| Health::default()).collect(),
            down_since: None,
        });
        Self { shards: shards.collect(), order, placement, turns: 0 }
    }

    /// For a batch that was never sent.
    pub fn choose(&mut self, now: Instant) -> Place {
        let shard = match self.placement {
            Placement::Consistent => self.nearest(now),
            Placement::RoundRobin => self.next_turn(),
        };
        self.stay(shard, now)
    }

    /// For a batch that may be on this shard.
    pub fn stay(&self, shard: usize, now: Instant) -> Place {
        self.stay_off(shard, None, now)
    }

    /// As [`Board::stay`]; this replica only if no other is up.
    pub fn stay_off(&self, shard: usize, off: Option<usize>, now: Instant) -> Place {
        let replicas = &self.shards[shard].replicas;
        let is_up = |at: &usize| replicas[*at].rests_until.is_none();
        let mut up = (0..replicas.len()).filter(is_up);
        let up = up.clone().find(|at| Some(*at) != off).or_else(|| up.next());
        // If all are down, the one that rested longest.
        let replica = up.or_else(|| {
            let until = |at: &usize| replicas[*at].rests_until.unwrap_or(now);
            (0..replicas.len()).min_by_key(until)
        });
        Place { shard, replica: replica.unwrap_or(0) }
    }

    /// The first shard of the order that has a server or may have one soon; the first of all if
    /// there is none.
    fn nearest(&self, now: Instant) -> usize {
        let is_waited_for = |shard: &&usize| {
            self.shards[**shard]
                .down_since
                .is_none_or(|since| now.saturating_duration_since(since) < SHARD_PATIENCE)
        };
        let home = self.order.first().copied().unwrap_or(0);
        if is_waited_for(&&home) {
            return home;
        }
        // Others are not waited for: they are up or not.
        let is_up = |shard: &&usize| self.shards[**shard].down_since.is_none();
        self.order.iter().find(is_up).copied().unwrap_or(home)
    }

    /// The next shard that is up; the next of all if there is none.
    fn next_turn(&mut self) -> usize {
        let count = self.shards.len();
        let from = self.turns % count;
        let up = (from..from + count).find(|at| self.shards[at % count].down_since.is_none());
        let at = up.unwrap_or(from);
        self.turns = (at + 1) % count;
        at % count
    }

    /// What became of a request to `place`; `error` for [`Fate::Away`]. True when that changed
    /// the state of the server.
    pub fn report(&mut self, place: Place, fate: Fate, error: Option<&str>, now: Instant) -> bool {
        let shard = &mut self.shards[place.shard];
        let health = &mut shard.replicas[place.replica];
        let was_down = health.rests_until.is_some();
        let changed = match fate {
            Fate::Answered => {
                health.answered = true;
                health.failures_in_a_row = 0;
                health.rests_until = None;
                was_down
            }
            Fate::Away => {
                let doubled = FIRST_REST * (1 << health.failures_in_a_row.min(10));
                health.rests_until = Some(now + doubled.min(LONGEST_REST));
                health.failures_in_a_row += 1;
                health.failures += 1;
                health.last_error = error.map(str::to_owned);
                !was_down
            }
        };
        if shard.replicas.iter().all(|health| health.rests_until.is_some()) {
            shard.down_since.get_or_insert(now);
        } else {
            shard.down_since = None;
        }
        changed
    }

    /// A server that has rested and should be asked whether it answers again. Until its answer is
    /// reported it is not named again for a while.
    pub fn due_probe(&mut self, now: Instant) -> Option<Place> {
        for (shard, Shard { replicas, .. }) in self.shards.iter_mut().enumerate() {
            for (replica, health) in replicas.iter_mut().enumerate() {
                if health.rests_until.is_some_and(|until| until <= now) {
                    health.rests_until = Some(now + LONGEST_REST);
                    return Some(Place { shard, replica });
                }
            }
        }
        None
    }

    /// Every server; `about` gives its URL and connections.
    pub fn view(&self, about: impl Fn(Place) -> (String, u64)) -> Vec<EndpointView> {
        let mut views = Vec::new();
        for (shard, Shard { replicas, .. }) in self.shards.iter().enumerate() {
            for (replica, health) in replicas.iter().enumerate() {
                let place = Place { shard, replica };
                let (url, connects) = about(place);
                views.push(EndpointView {
                    place,
                    url,
                    state: match (health.rests_until, health.answered) {
                        (Some(_), _) => "down",
                        (None, true) => "up",
                        (None, false) => "unknown",
                    },
                    home: self.order.first() == Some(&shard),
                    failures: health.failures,
                    connects,
                    last_error: health.last_error.clone(),
                });
            }
        }
        views
    }
}

/// How near an exporter is to a shard: the same on every host and in every version, whatever the
/// order of shards and replicas. Rendezvous hashing: a shard that comes takes exporters from all
/// others, one that goes gives its own to them, and nobody else moves.
fn nearness(exporter: &str, replicas: &[&str]) -> u64 {
    let mut names = replicas.to_vec();
    names.sort_unstable();
    let mut hash = Sha1::new();
    hash.update(exporter);
    for name in names {
        hash.update([0]);
        hash.update(name);
    }
    let digest = hash.finalize();
    digest.iter().take(8).fold(0, |number, octet| number << 8 | u64::from(*octet))
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
