//! The enricher: asks the caches for each record of a batch.
//!
//! It belongs to one thread, that which freezes batches: nothing here is locked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::geoip::{GeoError, GeoFiles, GeoIp};
use super::interfaces::Interfaces;
use super::labels::{BatchLabels, Labels};
#[cfg(feature = "live")]
use super::local::Local;
use super::stats::{Counts, EnrichStats};
use super::{EnrichmentCache, Lifetime};
use crate::names::Names;
use crate::record::FlowRecord;

/// The caches that are switched on.
pub struct Enricher {
    geoip: Option<GeoIp>,
    #[cfg(feature = "live")]
    local: Local,
    interfaces: Interfaces,
    stats: EnrichStats,
    /// The zero of the caches' clock.
    start: Instant,
}

impl Enricher {
    /// With nothing but files: what a replay may use, since the same files say the same.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn of_files(files: &GeoFiles, now: Instant) -> Result<Self, GeoError> {
        /// Addresses that are remembered.
        const ENTRIES: usize = 1 << 16;
        let lifetime = Lifetime { entries: ENTRIES, ttl: Duration::MAX };
        let geoip = (!files.is_empty()).then(|| GeoIp::open(files, lifetime)).transpose()?;
        Ok(Self {
            geoip,
            #[cfg(feature = "live")]
            local: Local::default(),
            interfaces: Interfaces::default(),
            stats: EnrichStats::default(),
            start: now,
        })
    }

    /// With what a live agent knows, too.
    #[cfg(feature = "live")]
    pub fn live(geoip: Option<GeoIp>, local: Local, now: Instant) -> Self {
        let mut enricher = Self {
            geoip,
            local,
            interfaces: Interfaces::default(),
            stats: EnrichStats::default(),
            start: now,
        };
        let names: Vec<_> = enricher.counts().into_iter().map(|(name, _)| name).collect();
        enricher.stats = EnrichStats::new(&names);
        enricher
    }

    /// A handle on what the caches have done.
    pub fn stats(&self) -> EnrichStats {
        self.stats.clone()
    }

    /// What is known of each record, now.
    pub fn label(
        &mut self,
        records: &[FlowRecord],
        names: &Arc<Names>,
        now: Instant,
    ) -> BatchLabels {
        let now_s = now.saturating_duration_since(self.start).as_secs() as u32;
        if let Some(geoip) = &mut self.geoip {
            geoip.settle(now_s);
        }
        #[cfg(feature = "live")]
        self.local.settle(now_s);
        #[cfg(feature = "live")]
        let has_services = self.local.services.is_some();
        #[cfg(not(feature = "live"))]
        let has_services = false;
        self.interfaces.take(names);
        let mut batch = BatchLabels::with_capacity(records.len(), has_services);
        for record in records {
            let labels = self.of_record(record, now_s, &mut batch);
            batch.push(labels);
        }
        batch.freeze();
        for (name, counts) in self.counts() {
            self.stats.publish(name, counts);
        }
        batch
    }

    #[cfg_attr(not(feature = "live"), allow(unused_variables, reason = "of files alone"))]
    fn of_record(&mut self, record: &FlowRecord, now_s: u32, batch: &mut BatchLabels) -> Labels {
        let mut labels = Labels::default();
        let namespace = self.interfaces.namespace(record.interface);
        if let Some(geoip) = &mut self.geoip {
            let mut place = |address| {
                geoip.look_up(&u128::from_be_bytes(address), now_s).copied().unwrap_or_default()
            };
            (labels.src, labels.dst) = (place(record.src), place(record.dst));
        }
        #[cfg(feature = "live")]
        self.local.label(record, namespace, now_s, batch, &mut labels);
        labels
    }

    fn counts(&self) -> Vec<(&'static str, Counts)> {
        let mut counts = vec![(Interfaces::NAME, self.interfaces.counts())];
        counts.extend(self.geoip.as_ref().map(|cache| (cache.name(), cache.counts())));
        #[cfg(feature = "live")]
        counts.extend(self.local.counts());
        counts
    }
}
