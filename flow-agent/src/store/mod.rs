//! The embedded store: ClickHouse as a library behind its own HTTP interface.
//!
//! A process of its own opens `libchdb.so` and serves unmodified ClickHouse
//! clients. A request goes `server` -> `respond` (reads `request`, moves the
//! body through `body`) -> `job` (a thread: `encoding`, `framing`, `sql`,
//! `settings`, `ffi`) -> a pipe -> `output`. `credentials` says
//! who may ask, `privileges` as whom the files are used. `embedded` runs the
//! store for the rest of the agent, in a `child`. See `docs/store.md`.

mod body;
mod child;
mod credentials;
mod embedded;
mod encoding;
mod error;
mod failure;
mod ffi;
mod folder;
mod framing;
pub mod fuzz;
mod job;
mod keeper;
mod layout;
mod lexer;
pub mod library;
mod multipart;
mod output;
mod pauses;
mod places;
mod privileges;
mod query_ids;
mod request;
mod respond;
mod server;
mod sessions;
mod settings;
mod signals;
mod single;
mod sql;
mod state;

pub use credentials::Key;
pub use embedded::EmbeddedStore;
pub use error::StoreError;
pub use folder::check_is_store;
pub use keeper::{Keeper, StoreRuns};
pub use server::{LEAST_MEMORY_MIB, StoreConfig, serve};
pub use signals::stop_signal;
