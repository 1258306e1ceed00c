//! Batching: records become frozen batches, one insert each.
//!
//! ```text
//! FlowRecords, BatchLabels, Names ──► BlockBuilder ──► FrozenBatch (one Native block)
//! Counts, Buckets (ledger, latency) ──► BlockBuilder ──► FrozenBatch
//! FrozenBatch ──► Block ──► DecodedFlows (look-up, quarantine), two halves (bisection)
//! ```
//!
//! Enters: records from the cache shards. Leaves: [`FrozenBatch`](crate::frozen::FrozenBatch)es.
//! A frozen batch never changes: its id is its deduplication token, and the same token must always
//! mean the same rows.
//!
//! # How a block is sent
//! `clickhouse::Client::insert_formatted_with("INSERT INTO db.flows FORMAT Native")` (0.15) sends
//! octets as they are: `send(block.clone())` hands the whole [`bytes::Bytes`] to hyper, which
//! writes it in one HTTP chunk without copying it, if the client's compression is
//! `Compression::None` (the default is LZ4, where the crate has that feature) and the connection
//! says yes to `is_write_vectored`. The engine takes columns by name, so that no list of columns
//! is needed: those which the block lacks get their defaults. With compression `send` compresses
//! what it is given into one frame: give it slices of about 1 MiB (`block.slice(..)`, which copies
//! nothing), else the frame is as large as the block and its compression blocks the runtime. The
//! timeouts of `with_timeouts` are for handing a chunk over and for the answer; time spent on
//! writing counts to the latter. Dropping an unfinished insert aborts it: the chunked body then
//! has no end, and the engine drops what it has of it.

mod batcher;
mod block;
mod books;
mod buffers;
mod cell;
mod columns;
mod decode;
mod dictionary;
mod encode;
mod error;
mod halves;
mod labels;
mod native;
mod size;
#[cfg(test)]
mod tests;

pub use batcher::{Batching, Frozen, within};
pub use columns::{Column, flow_columns};
pub use decode::{DecodedFlows, RowKey};
pub use dictionary::Dictionary;
pub use error::BlockError;
pub use native::{BlockBuilder, BlockSize};
pub use size::{BatchLimits, BatchSize, MOST_OCTETS, MOST_ROWS};
