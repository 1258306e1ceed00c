//! What the analytics have learned, as a part of the state that is kept over restarts.

use std::time::Duration;

use super::worker::AnalyticsControl;
use crate::state::Part;

/// How long busy analytics are waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Devices, listeners and baselines.
pub struct Learned {
    control: AnalyticsControl,
}

impl Learned {
    /// Those of these analytics.
    pub fn new(control: AnalyticsControl) -> Self {
        Self { control }
    }
}

impl Part for Learned {
    fn name(&self) -> &'static str {
        "analytics"
    }

    fn version(&self) -> u32 {
        super::state::VERSION
    }

    fn save(&mut self) -> Option<Vec<u8>> {
        self.control.save(PATIENCE)
    }

    fn restore(&mut self, octets: &[u8], _saved_at_ns: u64) -> Result<(), String> {
        match self.control.load(octets.to_vec(), PATIENCE) {
            Ok(true) => Ok(()),
            Ok(false) => Err("the analytics do not answer".into()),
            Err(error) => Err(error.to_string()),
        }
    }
}
