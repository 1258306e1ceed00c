//! The embedded store: ClickHouse as a library behind its own HTTP interface.
//!
//! A process of its own opens `libchdb.so` and serves unmodified ClickHouse
//! clients. A request goes `server` -> `respond` (reads `request`, moves the
//! body through `body`) -> `job` (a thread: `encoding`, `framing`, `sql`,
//! `settings`, `ffi`) -> a pipe -> `output`. `child` runs the store for the
//! rest of the agent. See `docs/store.md`.

mod body;
mod child;
mod encoding;
mod error;
mod failure;
mod ffi;
mod folder;
mod framing;
mod job;
mod lexer;
pub mod library;
mod multipart;
mod output;
mod request;
mod respond;
mod server;
mod sessions;
mod settings;
mod sql;
mod state;

pub use child::EmbeddedStore;
pub use error::StoreError;
pub use server::{StoreConfig, serve, stop_signal};
