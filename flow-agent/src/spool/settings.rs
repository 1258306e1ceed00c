//! What a spool may hold and how safe it keeps it.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

/// How a spool works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolSettings {
    /// The folder, for this spool alone; none: batches are held in memory only.
    pub dir: Option<PathBuf>,
    /// All its files, in octets.
    pub max_octets: u64,
    /// Blocks that are held in memory, beside or instead of the disk, in octets.
    pub memory_octets: u64,
    /// What happens when there is no room.
    pub full: Full,
    /// When files are synced.
    pub fsync: Fsync,
    /// A file that has reached this is not written to any more, in octets.
    pub segment_octets: u64,
}

impl Default for SpoolSettings {
    fn default() -> Self {
        Self {
            dir: Some("/var/lib/flow-agent/spool".into()),
            max_octets: 4096 << 20,
            memory_octets: 64 << 20,
            full: Full::DropOldest,
            fsync: Fsync::Interval(Duration::from_secs(1)),
            segment_octets: 16 << 20,
        }
    }
}

/// What happens to a batch for which there is no room.
///
/// The default is to drop the oldest: whoever looks at a network after an outage needs what
/// happened last, and what is oldest would be the first to be beyond its retention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Full {
    /// It is waited for room; the stages before wait too, and the kernel tables go on counting.
    Block,
    /// The oldest batches that are not being sent make room.
    #[default]
    DropOldest,
    /// It is dropped.
    DropNewest,
}

impl Full {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Block, Self::DropOldest, Self::DropNewest];

    /// Its name in the configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::DropOldest => "drop_oldest",
            Self::DropNewest => "drop_newest",
        }
    }
}

/// When files are synced, so that a power cut does not take what they have.
///
/// A killed agent loses nothing in any case: what is written is the kernel's. Syncing each batch
/// costs the batcher the disk's latency each time, so the default is an interval, by a thread
/// that only syncs what the store has not taken yet: while the store keeps up, segments are gone
/// before they ever reach the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// A batch is stored when it is synced.
    Always,
    /// A thread syncs what was written, so often.
    Interval(Duration),
    /// Never: the kernel writes it when it likes.
    Never,
}

impl Default for Fsync {
    fn default() -> Self {
        Self::Interval(Self::INTERVAL)
    }
}

impl Fsync {
    /// Between two syncs.
    pub const INTERVAL: Duration = Duration::from_secs(1);
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Always, Self::Interval(Self::INTERVAL), Self::Never];

    /// Its name in the configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Interval(_) => "interval",
            Self::Never => "never",
        }
    }
}

/// How long [`Full::Block`] waits for room.
#[derive(Clone, Debug)]
pub struct Waits {
    /// True once the agent stops.
    pub stopping: watch::Receiver<bool>,
    /// From then on it is waited for so long in all.
    pub patience: Duration,
}
