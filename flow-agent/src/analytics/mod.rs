//! Analytics in the agent: what the flow records say about devices, scanners and floods.
//!
//! Enters: each flow record once, on its way to the store ([`Tap`]), and what the kernel knows of
//! the networks ([`LinkState`]). Leaves: rows of the tables `events` and `devices`, and a
//! [`View`] for whoever asks. It holds that no flow ever waits for it: records that it cannot
//! keep up with are skipped, here only, and counted. Every structure has a fixed bound.

mod bounded;
mod changes;
mod config;
mod devices;
mod distinct;
mod engine;
mod episodes;
mod event;
mod floods;
mod interfaces;
#[cfg(feature = "live")]
mod learned;
mod listeners;
mod message;
#[cfg(feature = "live")]
mod neighbours;
mod network;
mod scans;
mod space_saving;
mod state;
mod top;
mod view;
mod worker;

#[cfg(test)]
mod tests;

pub use bounded::Size;
pub use config::AnalyticsConfig;
pub use devices::DeviceRow;
pub use distinct::Distinct;
pub use engine::{Context, Engine, Output};
pub use episodes::KindCount;
pub use event::{Address, Event, Finding, Kind, Severity, ip, mapped};
#[cfg(feature = "live")]
pub use learned::Learned;
#[cfg(feature = "live")]
pub use neighbours::NeighbourWatch;
pub use network::{LinkState, Mac, Neighbour, Prefix};
pub use space_saving::{Heavy, SpaceSaving};
pub use state::StateError;
pub use top::{ConversationView, DurationView, Ranked, ServiceView, Talker, TopView};
pub use view::{EventView, Snapshot, View};
pub use worker::{Analytics, AnalyticsControl, Rows, RowsQueue, Tap};
