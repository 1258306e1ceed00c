//! The servers of a store, each with a client, and what is known of them.
//!
//! Enters: batches' questions where to go, and what became of their requests. Leaves: a
//! [`Target`]. It holds what [`Board`] holds; all users of a store share what they learn, but no
//! connection: a connection lives on the runtime of its user.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::placement::{Board, EndpointView, Fate, Place, Placement};
use super::{Access, ClickHouse, Servers, SinkError, StoreAddress};

/// The servers of a store, for one runtime. Clones share its connections.
#[derive(Clone)]
pub struct Endpoints {
    clients: Arc<Vec<Vec<ClickHouse>>>,
    servers: Arc<Servers>,
    access: Access,
    board: Arc<Mutex<Board>>,
}

/// Where a request goes.
#[derive(Clone)]
pub struct Target {
    place: Place,
    /// The server.
    pub client: ClickHouse,
}

impl Target {
    /// The number of its shard, for [`Endpoints::stay`].
    pub fn shard(&self) -> usize {
        self.place.shard
    }

    /// Shard and replica.
    pub fn place(&self) -> Place {
        self.place
    }
}

impl Endpoints {
    /// Nothing is sent yet.
    pub fn new(servers: Servers, access: Access, exporter: &str, placement: Placement) -> Self {
        let shards: Vec<Vec<&str>> = servers
            .shards()
            .iter()
            .map(|replicas| replicas.iter().map(|address| address.url.as_str()).collect())
            .collect();
        let board = Arc::new(Mutex::new(Board::new(&shards, exporter, placement)));
        let clients = Arc::new(clients(&servers, &access));
        Self { clients, servers: Arc::new(servers), access, board }
    }

    /// The same servers with connections of their own, for another runtime.
    #[must_use]
    pub fn with_own_connections(&self) -> Self {
        Self { clients: Arc::new(clients(&self.servers, &self.access)), ..self.clone() }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        // Every state between two statements is usable.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn target(&self, place: Place) -> Target {
        Target { place, client: self.clients[place.shard][place.replica].clone() }
    }

    /// For a batch that was never sent, or surely is nowhere ([`SinkError::was_never_sent`]).
    pub fn choose(&self, now: Instant) -> Target {
        let place = self.board().choose(now);
        self.target(place)
    }

    /// For a batch in doubt: a server that shares its deduplication log.
    pub fn stay(&self, shard: usize, now: Instant) -> Target {
        let place = self.board().stay(shard, now);
        self.target(place)
    }

    /// As [`Endpoints::stay`], but rather not the replica that could not be brought up to date.
    pub(super) fn stay_off(&self, shard: usize, off: Option<usize>, now: Instant) -> Target {
        let place = self.board().stay_off(shard, off, now);
        self.target(place)
    }

    /// This server.
    pub(super) fn at(&self, place: Place) -> Target {
        self.target(place)
    }

    /// What became of a request. Say it of each one: the next target depends on it.
    pub fn report(&self, target: &Target, outcome: Result<(), &SinkError>, now: Instant) {
        let (fate, words) = match outcome {
            Ok(()) => (Fate::Answered, None),
            Err(error) => (Fate::of(error), Some(error.to_string())),
        };
        if self.board().report(target.place, fate, words.as_deref(), now) && self.count() > 1 {
            let address = target.client.address();
            match fate {
                Fate::Answered => tracing::info!("the store at {address} answers again"),
                Fate::Away => tracing::warn!(
                    "{}; another server of the store is tried, if there is one",
                    words.unwrap_or_default()
                ),
            }
        }
    }

    /// What became of a probe: a server that refuses it cannot take batches either.
    pub(super) fn report_probe(
        &self,
        target: &Target,
        outcome: Result<(), &SinkError>,
        now: Instant,
    ) {
        let words = outcome.err().map(ToString::to_string);
        let fate = if words.is_some() { Fate::Away } else { Fate::Answered };
        if self.board().report(target.place, fate, words.as_deref(), now) {
            tracing::info!("the store at {} answers again", target.client.address());
        }
    }

    /// How many servers there are.
    pub fn count(&self) -> usize {
        self.servers.all().count()
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.servers.shards().len()
    }

    /// The first server of the configuration, as the store is called in messages.
    pub fn address(&self) -> &StoreAddress {
        self.clients[0][0].address()
    }

    /// Every server, shard by shard.
    pub fn all(&self) -> impl Iterator<Item = Target> {
        let places = self.servers.shards().iter().enumerate().flat_map(|(shard, replicas)| {
            (0..replicas.len()).map(move |replica| Place { shard, replica })
        });
        places.map(|place| self.target(place))
    }

    /// A server that failed, has rested, and should be asked whether it answers again.
    pub fn due_probe(&self, now: Instant) -> Option<Target> {
        let place = self.board().due_probe(now)?;
        Some(self.target(place))
    }

    /// Every server, for the status.
    pub fn view(&self) -> Vec<EndpointView> {
        self.board().view(|Place { shard, replica }| {
            let address = self.clients[shard][replica].address();
            (address.to_string(), self.access.connects(address))
        })
    }
}

fn clients(servers: &Servers, access: &Access) -> Vec<Vec<ClickHouse>> {
    let client = |address: &StoreAddress| ClickHouse::new(address.clone(), access.clone());
    servers.shards().iter().map(|replicas| replicas.iter().map(client).collect()).collect()
}

impl Fate {
    /// A server that refuses a request for good is there; one that cannot take any is not.
    pub fn of(error: &SinkError) -> Self {
        match error {
            SinkError::NewPassword { .. } => Self::Answered,
            error if error.is_transient() => Self::Away,
            _ => Self::Answered,
        }
    }
}
