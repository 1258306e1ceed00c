//! Sinks: where records end.

mod address;
mod clickhouse;
mod connector;
mod delivery;
mod error;
mod findings;
mod json;
mod migrate;
mod question;
mod verify;

pub use address::{StoreAddress, StoreTarget};
pub use clickhouse::ClickHouse;
pub use connector::ConnectionWatch;
pub use delivery::{Delivery, Outcome};
pub use error::SinkError;
pub use findings::FindingsDelivery;
pub use json::write_json_lines;
pub use question::{Question, Reading, quoted};
