//! Sinks: where records end.

mod address;
mod clickhouse;
mod connector;
mod delivery;
mod findings;
mod json;

pub use address::{StoreAddress, StoreTarget};
pub use clickhouse::{ClickHouse, SinkError};
pub use connector::ConnectionWatch;
pub use delivery::{Delivery, Outcome};
pub use findings::FindingsDelivery;
pub use json::write_json_lines;
