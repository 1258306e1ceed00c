//! The way of one batch over the servers.
//!
//! Enters: requests of the protocol. Leaves: each at its server. It holds that a batch goes to any
//! shard until it may be on one, and from then on to that one; that nothing of it counts as ended
//! before each replica that may run something of it has said so; and that evidence is asked of,
//! and acted upon at, the one replica that was brought up to date for it.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::placement::Place;
use super::{ClickHouse, Endpoints, SinkError, Target};
use crate::frozen::FrozenBatch;
use crate::schema::Evidence;

/// The way of one batch.
#[derive(Debug, Default)]
pub struct Course(Mutex<Way>);

#[derive(Debug, Default)]
struct Way {
    /// Where it may be; none: nowhere.
    shard: Option<usize>,
    /// Up to date since the last [`Course::sync`].
    held: Option<Place>,
    /// Could not be brought up to date the last time.
    behind: Option<Place>,
    running: Running,
}

/// The servers that may run something of the batch.
#[derive(Debug)]
enum Running {
    /// Those of the shard, or of all shards.
    Anywhere,
    At(BTreeSet<Place>),
}

impl Default for Running {
    fn default() -> Self {
        Self::At(BTreeSet::new())
    }
}

impl Course {
    /// Of a batch that an agent before this one may have sent to this shard.
    pub fn at(shard: usize) -> Self {
        let way = Way { shard: Some(shard), running: Running::Anywhere, ..Way::default() };
        Self(Mutex::new(way))
    }

    fn way(&self) -> MutexGuard<'_, Way> {
        // Every state between two statements is usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on to this shard only.
    pub fn bind(&self, shard: usize) {
        self.way().shard = Some(shard);
    }

    /// Of a batch or a part of one. `in_doubt`: an agent before this one may have sent it to any
    /// server.
    pub(super) fn begin(&self, in_doubt: bool) {
        if in_doubt {
            self.way().running = Running::Anywhere;
        }
    }

    fn target(&self, endpoints: &Endpoints, now: Instant) -> Target {
        let way = self.way();
        match way.shard {
            None => endpoints.choose(now),
            Some(shard) => {
                let off = way.behind.filter(|place| place.shard == shard);
                endpoints.stay_off(shard, off.map(|place| place.replica), now)
            }
        }
    }

    /// Sends it once to where it may go, and reports what became of that.
    ///
    /// # Errors
    /// What `send` failed with.
    pub async fn send<T>(
        &self,
        endpoints: &Endpoints,
        clock: fn() -> Instant,
        send: impl AsyncFnOnce(&ClickHouse) -> Result<T, SinkError>,
    ) -> Result<T, SinkError> {
        self.way().behind = None;
        let target = self.target(endpoints, clock());
        self.send_to(endpoints, &target, clock, send).await
    }

    /// To the replica that was synced last: a question, or what its answer calls for.
    ///
    /// # Errors
    /// What `send` failed with.
    pub(super) async fn hold<T>(
        &self,
        endpoints: &Endpoints,
        clock: fn() -> Instant,
        send: impl AsyncFnOnce(&ClickHouse) -> Result<T, SinkError>,
    ) -> Result<T, SinkError> {
        let held = self.way().held;
        let target = match held {
            Some(place) => endpoints.at(place),
            None => self.target(endpoints, clock()),
        };
        self.send_to(endpoints, &target, clock, send).await
    }

    async fn send_to<T>(
        &self,
        endpoints: &Endpoints,
        target: &Target,
        clock: fn() -> Instant,
        send: impl AsyncFnOnce(&ClickHouse) -> Result<T, SinkError>,
    ) -> Result<T, SinkError> {
        let place = target.place();
        let (before, is_new) = {
            let mut way = self.way();
            // A request that is given up in its middle may have been sent.
            let before = way.shard.replace(place.shard);
            let is_new = match &mut way.running {
                Running::Anywhere => false,
                Running::At(places) => places.insert(place),
            };
            (before, is_new)
        };
        let outcome = send(&target.client).await;
        let fate = outcome.as_ref().map(|_| ());
        if fate.is_err_and(SinkError::was_never_sent) {
            let mut way = self.way();
            way.shard = before;
            if let (true, Running::At(places)) = (is_new, &mut way.running) {
                places.remove(&place);
            }
        }
        endpoints.report(target, fate, clock());
        outcome
    }

    /// Chooses a replica for what follows, and has it fetch what the others have.
    ///
    /// # Errors
    /// It is behind; the next time another one is chosen, if there is one.
    pub(super) async fn sync(
        &self,
        endpoints: &Endpoints,
        clock: fn() -> Instant,
        sync: impl AsyncFnOnce(&ClickHouse) -> Result<(), SinkError>,
    ) -> Result<(), SinkError> {
        let target = self.target(endpoints, clock());
        self.way().held = None;
        let outcome = sync(&target.client).await;
        // One that waits for a replica that is away is no worse for new batches.
        let is_only_behind =
            matches!(outcome, Err(SinkError::Silent { .. } | SinkError::Refused { .. }));
        if !is_only_behind {
            endpoints.report(&target, outcome.as_ref().copied(), clock());
        }
        let mut way = self.way();
        match outcome {
            Ok(()) => {
                way.shard = Some(target.shard());
                (way.held, way.behind) = (Some(target.place()), None);
            }
            Err(_) => way.behind = Some(target.place()),
        }
        outcome
    }

    /// Ends what runs of the batch wherever it may run. A server that cannot be asked may be in
    /// the middle of it, even if it refuses connections: a server that stops does that first.
    ///
    /// # Errors
    /// Something may still run.
    pub(super) async fn end(
        &self,
        endpoints: &Endpoints,
        clock: fn() -> Instant,
        end: impl AsyncFn(&ClickHouse) -> Result<(), SinkError>,
    ) -> Result<(), SinkError> {
        let places: Vec<Place> = {
            let way = self.way();
            let is_near = |place: &Place| way.shard.is_none_or(|shard| place.shard == shard);
            match &way.running {
                Running::Anywhere => {
                    endpoints.all().map(|target| target.place()).filter(is_near).collect()
                }
                Running::At(places) => places.iter().copied().collect(),
            }
        };
        let mut failed = None;
        for place in places {
            let target = endpoints.at(place);
            let Err(error) = end(&target.client).await else { continue };
            let others: Vec<Target> = endpoints
                .all()
                .filter(|other| other.shard() == place.shard && other.place() != place)
                .collect();
            if others.is_empty() {
                endpoints.report(&target, Err(&error), clock());
                failed = Some(error);
            } else if !is_ended_by(&others, &end).await {
                // The probes say when it is back: to report it here would put them off.
                failed = Some(match error {
                    error if error.is_transient() => SinkError::MayRun {
                        address: target.client.address().to_string(),
                        problem: error.to_string(),
                    },
                    error => error,
                });
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        self.way().running = Running::default();
        Ok(())
    }

    /// [`Course::end`] for everything of a batch.
    ///
    /// # Errors
    /// Something may still run.
    pub(super) async fn end_batch(
        &self,
        endpoints: &Endpoints,
        clock: fn() -> Instant,
        batch: &FrozenBatch,
    ) -> Result<(), SinkError> {
        let end = async |client: &ClickHouse| client.end_queries(batch).await;
        self.end(endpoints, clock, end).await
    }

    /// [`Course::sync`] for these tables.
    ///
    /// # Errors
    /// It is behind.
    pub(super) async fn catch_up(
        &self,
        endpoints: &Endpoints,
        clock: fn() -> Instant,
        tables: &[Evidence],
    ) -> Result<(), SinkError> {
        let sync = async |client: &ClickHouse| client.catch_up(tables).await;
        self.sync(endpoints, clock, sync).await
    }

    /// How many rows of the batch each table holds, when nothing of it runs any more.
    ///
    /// # Errors
    /// Nobody can say.
    pub(super) async fn look(
        &self,
        endpoints: &Endpoints,
        clock: fn() -> Instant,
        batch: &FrozenBatch,
        tables: &[Evidence],
    ) -> Result<Vec<u64>, SinkError> {
        self.end_batch(endpoints, clock, batch).await?;
        self.catch_up(endpoints, clock, tables).await?;
        let count = async |client: &ClickHouse| client.count(batch, tables).await;
        self.hold(endpoints, clock, count).await
    }
}

/// True if one of these addresses is of the same server: its table is not replicated, so it is
/// the only one that has it (`Replicas::check`), and what it ends runs nowhere.
async fn is_ended_by(
    others: &[Target],
    end: impl AsyncFn(&ClickHouse) -> Result<(), SinkError>,
) -> bool {
    for other in others {
        if matches!(other.client.is_only_one().await, Ok(true)) && end(&other.client).await.is_ok()
        {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::{Access, Placement, StoreTarget};

    /// Two replicas where nothing listens.
    fn endpoints() -> Endpoints {
        let text = ["http://127.0.0.1:1,http://127.0.0.1:2"];
        let Ok(StoreTarget::Servers(servers)) = StoreTarget::of_shards(&text) else {
            panic!("two servers")
        };
        let access = Access::plain(&servers).expect("no files");
        Endpoints::new(servers, access, "e", Placement::Consistent)
    }

    fn away(client: &ClickHouse) -> SinkError {
        SinkError::Unreachable { address: client.address().to_string(), problem: "cut".into() }
    }

    fn is_first(client: &ClickHouse) -> bool {
        client.address().to_string().contains(":1/")
    }

    #[tokio::test]
    async fn what_was_sent_to_a_server_ends_only_when_that_server_says_so() {
        let (endpoints, course) = (endpoints(), Course::default());
        let send = async |client: &ClickHouse| Err::<(), _>(away(client));
        course.send(&endpoints, Instant::now, send).await.expect_err("cut");
        let first_is_away = async |client: &ClickHouse| {
            if is_first(client) { Err(away(client)) } else { Ok(()) }
        };
        let error = course.end(&endpoints, Instant::now, first_is_away).await.expect_err("may run");
        assert!(matches!(&error, SinkError::MayRun { .. }), "{error}");
        let back = async |_: &ClickHouse| Ok(());
        course.end(&endpoints, Instant::now, back).await.expect("nothing runs");
        // Nothing was sent since.
        course.end(&endpoints, Instant::now, first_is_away).await.expect("nothing runs");
        course.begin(true);
        course.end(&endpoints, Instant::now, first_is_away).await.expect_err("may run");
    }

    #[tokio::test]
    async fn what_follows_goes_to_the_replica_that_was_synced() {
        let (endpoints, course) = (endpoints(), Course::at(0));
        let behind = async |_: &ClickHouse| Err(SinkError::Silent { seconds: 1 });
        course.sync(&endpoints, Instant::now, behind).await.expect_err("behind");
        let sync = async |client: &ClickHouse| {
            assert!(!is_first(client), "another one than the one that is behind");
            Ok(())
        };
        course.sync(&endpoints, Instant::now, sync).await.expect("synced");
        let ask = async |client: &ClickHouse| Ok(is_first(client));
        assert!(!course.hold(&endpoints, Instant::now, ask).await.expect("asked"));
    }
}
