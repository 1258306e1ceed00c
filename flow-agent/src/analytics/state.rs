//! What the analytics remember over a restart: devices, listeners, baselines.
//!
//! No counters and no events: a restart says nothing twice. JSON with a version; another version
//! or a damaged text is refused and the agent learns anew.

use serde::{Deserialize, Serialize};

use super::changes::SavedSeries;
use super::devices::SavedDevice;
use super::listeners::Listener;

/// The layout.
pub(super) const VERSION: u32 = 1;

/// Why a saved state is not used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be understood.
    #[error("the saved analytics state is damaged: {source}; the agent learns anew")]
    Damaged {
        /// Why.
        source: serde_json::Error,
    },
    /// Another agent wrote it.
    #[error(
        "the saved analytics state has version {found}, this agent knows {VERSION}; \
         the agent learns anew"
    )]
    Version {
        /// What it says.
        found: u32,
    },
}

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Of the layout.
    pub version: u32,
    /// Ns of the learning period that were left.
    pub learning_left_ns: u64,
    /// Devices.
    pub devices: Vec<SavedDevice>,
    /// Listeners.
    pub listeners: Vec<Listener>,
    /// Baselines.
    pub series: Vec<SavedSeries>,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl State {
    /// As octets.
    pub fn encode(mut self) -> Vec<u8> {
        self.version = VERSION;
        serde_json::to_vec(&self).unwrap_or_default()
    }

    /// From octets.
    ///
    /// # Errors
    /// They are damaged or of another version.
    pub fn decode(octets: &[u8]) -> Result<Self, StateError> {
        let damaged = |source| StateError::Damaged { source };
        let Version { version } = serde_json::from_slice(octets).map_err(damaged)?;
        if version != VERSION {
            return Err(StateError::Version { found: version });
        }
        serde_json::from_slice(octets).map_err(damaged)
    }
}
