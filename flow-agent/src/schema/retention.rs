//! How long rows are kept.

/// Days that rows are kept after the batch that brought them was frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_field_names, reason = "each is its key in the configuration")]
pub struct Retention {
    /// Rows of `flows`.
    pub flows_days: u32,
    /// Rows of `flows_1m`.
    pub flows_1m_days: u32,
    /// Rows of `flows_1h`.
    pub flows_1h_days: u32,
}

impl Retention {
    /// What each may be: evidence of a batch needs more than a day.
    pub const ALLOWED: std::ops::RangeInclusive<u32> = 2..=3_650;
}

impl Default for Retention {
    fn default() -> Self {
        Self { flows_days: 15, flows_1m_days: 90, flows_1h_days: 400 }
    }
}
