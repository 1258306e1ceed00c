//! Sinks: where records end.

mod access;
mod address;
mod answer;
mod clickhouse;
mod connector;
mod credentials;
mod delivery;
mod dial;
mod endpoints;
mod error;
mod findings;
mod json;
mod placement;
mod probe;
mod problem;
mod replicas;
mod secret;
mod stream;
mod tls;

pub use access::{Access, AccessConfig, Codec};
pub use address::{Servers, StoreAddress, StoreTarget};
pub use clickhouse::ClickHouse;
pub use connector::ConnectionWatch;
pub use credentials::PasswordFile;
pub use delivery::{Delivery, Outcome};
pub use endpoints::{Course, Endpoints, Target};
pub use error::SinkError;
pub use findings::FindingsDelivery;
pub use json::write_json_lines;
pub use placement::{EndpointView, Fate, Place, Placement};
pub use probe::Prober;
pub use replicas::Replicas;
pub use secret::Secret;
pub use tls::TlsFiles;
