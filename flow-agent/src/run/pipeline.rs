//! The pipeline: the stages after the drain, each with its threads.

use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::bounded;
use tokio::sync::watch;

use super::kept::Kept;
use crate::Error;
use crate::analytics::{Analytics, Tap};
use crate::batch::{BatchSize, Batching};
use crate::books::Books;
use crate::cache::{Cache, CacheConfig};
use crate::clock::wall_clock;
use crate::config::Config;
use crate::enrich::Enricher;
use crate::failpoint;
use crate::latency::Latency;
use crate::ledger::Ledger;
use crate::names::NameBook;
use crate::sink::quarantine::Quarantine;
use crate::sink::{Delivery, DeliveryBook, FindingsDelivery, Limits, Outcome};
use crate::spool::{Recovered, Spool, SpoolStatus, Waits};
use crate::spooler::Spooler;
use crate::target::Store;
use crate::waiting::Waiting;

/// Messages of records that may wait for the batcher.
const RECORD_QUEUE: usize = 256;
/// How long a stopping agent waits for a store that takes nothing, if what is left can stay on
/// the disk.
const IDLE_WITH_DISK: Duration = Duration::from_secs(15);

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
    /// What waits for the spool.
    pub waiting: Waiting,
    /// What waits for the store.
    pub spool: SpoolStatus,
    /// What the delivery does.
    pub deliveries: DeliveryBook,
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
        kept: Kept,
    ) -> Result<Self, Error> {
        let (ledger, latency) = (Ledger::default(), Latency::default());
        let (record_sender, record_receiver) = bounded(RECORD_QUEUE);
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
        let waits = Waits { stopping: stopping.clone(), patience: config.delivery.stop_timeout };
        let (writer, reader, recovered) =
            Spool::open_for(&config.spool, waits, &config.store.shard_names())?;
        kept.open(&ledger, &recovered, config.spool.dir.clone());
        tell_recovered(&recovered);
        let spool = reader.status();
        failpoint::watch(&ledger, &spool);
        let waiting = Waiting::new(spool.clone());
        let size = BatchSize::new(config.batch);
        let exporter = config.exporter.clone();
        let books = Books { ledger: ledger.clone(), latency: latency.clone(), exporter };
        let deliveries = DeliveryBook::new(wall_clock());
        let idle = match config.spool.dir {
            Some(_) => IDLE_WITH_DISK.min(config.delivery.stop_timeout),
            None => config.delivery.stop_timeout,
        };
        let delivery = Delivery {
            store: store.endpoints(),
            schema: store.schema().clone(),
            in_flight: config.delivery.in_flight,
            quarantine: Some(Quarantine::new(&config.delivery.quarantine_dir)),
            ledger: ledger.clone(),
            latency: latency.clone(),
            books: books.clone(),
            size: Some(size.clone()),
            book: deliveries.clone(),
            wall_clock,
            limits: Limits { idle, total: Some(config.delivery.stop_timeout) },
        };
        let (delivery, last) = delivery.start(reader, stopping).map_err(Error::thread)?;
        let batching = Batching {
            size,
            frozen: Box::new(Spooler::new(writer, last, books, wall_clock)),
            tap,
            enricher,
            names: names.clone(),
            latency: latency.clone(),
            waiting: waiting.clone(),
            wall_clock,
        };
        let batcher = batching.start(record_receiver).map_err(Error::thread)?;
        let stopping = stopping_sender;
        Ok(Self {
            cache,
            batcher,
            delivery,
            analytics,
            stopping,
            ledger,
            latency,
            waiting,
            spool,
            deliveries,
        })
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

/// Says what the agent before this one left in the spool.
fn tell_recovered(recovered: &Recovered) {
    let Recovered { waiting, lost, held, held_for, foreign, .. } = recovered;
    if !waiting.is_empty() {
        tracing::info!(
            "{} rows in {} batches of an agent before this one are in the spool; the store is \
             asked whether it has them",
            waiting.rows,
            waiting.batches
        );
    }
    if !held.is_empty() {
        tracing::error!(
            "{} rows in {} batches of them are not sent: they may be on {} already, which store \
             does not name any more; name it again until they are gone, or remove the file shards \
             in the folder of the spool and restart to send them all the same (docs, \
             configuration.md, \"The spool\")",
            held.rows,
            held.batches,
            held_for.join(" and ")
        );
    }
    for (reason, lost) in lost.iter() {
        tracing::warn!(
            "{} rows in {} batches of an agent before this one are lost, reason {}",
            lost.rows,
            lost.batches,
            reason.label()
        );
    }
    for file in foreign {
        tracing::warn!("the spool has a file that is not of this version, left alone: {file}");
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
        patience: config.delivery.stop_timeout,
    };
    let delivery = delivery.start(queue, stopping.clone()).map_err(Error::thread)?;
    Ok(Some((Analysis { analytics, delivery }, tap)))
}

fn join<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
