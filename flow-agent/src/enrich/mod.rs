//! Enrichment: what is known about a flow beside its packets.
//!
//! Enter: records on their way into a batch. Leave: [`Labels`], one for each record: names of
//! services, units and hosts, countries and autonomous systems. It holds that a look-up never
//! waits: what is not in memory is left out of this row and learned for the next one.

mod country;
mod enricher;
mod geoip;
mod interfaces;
mod labels;
mod memo;
mod stats;

#[cfg(feature = "live")]
mod cgroups;
#[cfg(feature = "live")]
mod hosts;
#[cfg(feature = "live")]
mod learner;
#[cfg(feature = "live")]
mod listeners;
#[cfg(feature = "live")]
mod live;
#[cfg(feature = "live")]
mod local;
#[cfg(feature = "live")]
mod service_names;
#[cfg(feature = "live")]
mod sockets;
#[cfg(feature = "live")]
mod unit_name;
#[cfg(feature = "live")]
mod units;

#[cfg(test)]
#[path = "../../../tests/src/mmdb.rs"]
mod mmdb;

pub use country::Country;
pub use enricher::Enricher;
pub use geoip::{GeoError, GeoFiles, GeoIp, Place};
pub use labels::{BatchLabels, Labels, RowLabels};
pub use memo::{Lifetime, Memo};
pub use stats::{CacheReading, Counts, EnrichStats};

#[cfg(feature = "live")]
pub use cgroups::Cgroups;
#[cfg(feature = "live")]
pub use hosts::{HostConfig, HostNames};
#[cfg(feature = "live")]
pub use learner::{Learner, LearnerConfig};
#[cfg(feature = "live")]
pub use listeners::{Listener, Listeners, Seen};
#[cfg(feature = "live")]
pub use live::{EnrichConfig, Enrichment};
#[cfg(feature = "live")]
pub use local::Local;
#[cfg(feature = "live")]
pub use service_names::{OwnServices, ServiceNames};
#[cfg(feature = "live")]
pub use sockets::{LocalSocket, local_sockets};
#[cfg(feature = "live")]
pub use unit_name::unit_name;
#[cfg(feature = "live")]
pub use units::{SocketKey, Units};

/// A cache of what is known about one kind of thing.
pub trait EnrichmentCache {
    /// What is asked for.
    type Key;
    /// What is known of it.
    type Value: ?Sized;

    /// What statistics call it.
    fn name(&self) -> &'static str;

    /// Takes in what was learned in the background. `now_s` counts from any fixed moment.
    fn settle(&mut self, now_s: u32);

    /// Answers from memory, or not at all; never waits. What is not known is learned in the
    /// background if it can be.
    fn look_up(&mut self, key: &Self::Key, now_s: u32) -> Option<&Self::Value>;

    /// What it has done so far.
    fn counts(&self) -> Counts;
}
