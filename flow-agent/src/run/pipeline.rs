//! The pipeline: the stages after the drain, each with its threads.

use std::thread::JoinHandle;

use crossbeam::channel::bounded;
use tokio::sync::{mpsc, watch};

use crate::Error;
use crate::analytics::{Analytics, Tap};
use crate::batch::{BatchSize, Batching};
use crate::cache::{Cache, CacheConfig};
use crate::clock::wall_clock;
use crate::config::Config;
use crate::enrich::Enricher;
use crate::latency::Latency;
use crate::ledger::Ledger;
use crate::names::NameBook;
use crate::room::{Counted, Room, Waits};
use crate::sink::{Delivery, FindingsDelivery, Outcome};
use crate::target::Store;
use crate::waiting::Waiting;

/// Batches that may wait for the store; the rows in them are bounded by `batch`.
const BATCH_QUEUE: usize = 1 << 16;
/// Messages of records that may wait for the batcher.
const RECORD_QUEUE: usize = 256;

/// From the cache to the store.
pub struct Pipeline {
    /// Where the flows of a drain go in.
    pub cache: Cache,
    batcher: JoinHandle<()>,
    delivery: JoinHandle<Outcome>,
    /// Without it nothing is looked at.
    analytics: Option<Analysis>,
    stopping: watch::Sender<bool>,
    /// What was counted, stage by stage.
    pub ledger: Ledger,
    /// How long each stage took.
    pub latency: Latency,
    /// What waits for the store.
    pub waiting: Waiting,
}

/// The analytics and the delivery of what they find.
struct Analysis {
    analytics: Analytics,
    delivery: JoinHandle<()>,
}

impl Pipeline {
    /// Starts every stage; the cache with so many shards.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(
        config: &Config,
        shards: usize,
        seed: u64,
        names: &NameBook,
        enricher: Option<Enricher>,
        store: &Store,
    ) -> Result<Self, Error> {
        let (ledger, latency) = (Ledger::default(), Latency::default());
        let (record_sender, record_receiver) = bounded(RECORD_QUEUE);
        let (batch_sender, batch_receiver) = mpsc::channel(BATCH_QUEUE);
        let (stopping_sender, stopping) = watch::channel(false);
        let cache = CacheConfig {
            shards,
            limits: config.cache.limits,
            level: config.cache.level,
            hot_flows: config.cache.hot_flows,
            seed,
        };
        let cache = Cache::start(&cache, &record_sender, &latency).map_err(Error::thread)?;
        drop(record_sender);
        let (analytics, tap) = match analyse(config, store, &stopping)? {
            Some((analytics, tap)) => (Some(analytics), Some(tap)),
            None => (None, None),
        };
        let waiting = Waiting::default();
        let waits = Waits { stopping: stopping.clone(), patience: config.stop_patience };
        let rows = config.queued_rows.max(config.batch.max_rows);
        let room = Room::new(rows, batch_sender, waits).map_err(Error::thread)?;
        let frozen = Counted { room, ledger: ledger.clone(), lost_rows: 0, warned: None };
        let size = BatchSize::new(config.batch);
        let batching = Batching {
            size: size.clone(),
            frozen: Box::new(frozen),
            tap,
            enricher,
            names: names.clone(),
            latency: latency.clone(),
            waiting: waiting.clone(),
            wall_clock,
        };
        let batcher = batching.start(record_receiver).map_err(Error::thread)?;
        let delivery = Delivery {
            store: store.endpoints(),
            exporter: config.exporter.clone(),
            ledger: ledger.clone(),
            latency: latency.clone(),
            size,
            wall_clock,
            patience: config.stop_patience,
        };
        let delivery = delivery.start(batch_receiver, stopping).map_err(Error::thread)?;
        let stopping = stopping_sender;
        Ok(Self { cache, batcher, delivery, analytics, stopping, ledger, latency, waiting })
    }

    /// A stage of the flows that has ended before its time, which only a panic does. Without the
    /// analytics and their delivery the agent goes on: they tell and count that themselves.
    pub fn dead_stage(&self) -> Option<&'static str> {
        if !self.cache.is_alive() {
            Some("cache")
        } else if self.batcher.is_finished() {
            Some("batch")
        } else if self.delivery.is_finished() {
            Some("delivery")
        } else {
            None
        }
    }

    /// From now on a store that is away is waited for only so long.
    pub fn begin_stopping(&self) {
        // Without a receiver the delivery has ended already.
        let _ = self.stopping.send(true);
    }

    /// Ends stage after stage, so that each has given on what it held. `analysed` is called once
    /// the analytics, if there are any, have seen the last record.
    pub fn finish(self, analysed: impl FnOnce()) -> Outcome {
        let flows = self.cache.stop();
        tracing::debug!(?flows, "cache shards ended");
        join(self.batcher);
        let findings = self.analytics.map(|Analysis { analytics, delivery }| {
            analytics.finish();
            delivery
        });
        analysed();
        if let Some(delivery) = findings {
            // A panic of it has been told.
            let _ = delivery.join();
        }
        join(self.delivery)
    }

    /// The analytics, if they are switched on.
    pub fn analytics(&self) -> Option<&Analytics> {
        self.analytics.as_ref().map(|analysis| &analysis.analytics)
    }
}

/// Starts the analytics, if they are switched on.
fn analyse(
    config: &Config,
    store: &Store,
    stopping: &watch::Receiver<bool>,
) -> Result<Option<(Analysis, Tap)>, Error> {
    if !config.analytics.enabled {
        return Ok(None);
    }
    let started = Analytics::start(config.analytics.clone(), wall_clock);
    let (analytics, tap, queue) = started.map_err(Error::thread)?;
    let delivery = FindingsDelivery {
        store: store.endpoints(),
        exporter: config.exporter.clone(),
        patience: config.stop_patience,
    };
    let delivery = delivery.start(queue, stopping.clone()).map_err(Error::thread)?;
    Ok(Some((Analysis { analytics, delivery }, tap)))
}

fn join<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
