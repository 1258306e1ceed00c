//! What the agent remembers over restarts: no counters, so nothing can be stored twice.
//!
//! Enter: [`Part`]s of the agent, each with a name, a version and its own octets. Leaves: one file,
//! replaced whole, and at the next start the parts' memory. It holds that a file which is stale,
//! damaged or of another kind is refused as a whole, with a reason, and that no trouble with it
//! ever ends the agent.

mod file;
pub mod fuzz;
mod keeper;
mod part;
mod parts;

pub use file::{StateError, StateFile};
pub use keeper::{Keeper, StateConfig};
pub use part::{Part, State, decode, encode};
pub use parts::{Initiators, ListeningPorts};
