//! A proxy in front of a store that does what networks and servers do on bad days.
//!
//! Enters: HTTP/1.1 requests for the store. Leaves: the same requests and their answers,
//! but for those that the test's script picked a [`Fault`] for. What must hold: without a fault
//! every octet passes unchanged in both directions, and [`Proxy::fired`] counts a fault only
//! when it has really happened, so a test can tell that it tested something.

mod answer;
mod connection;
mod fault;
mod fired;
mod framing;
mod incoming;
mod request;
mod schedule;
mod script;
mod server;

pub use answer::Answer;
pub use fault::Fault;
pub use fired::Fired;
pub use request::Request;
pub use schedule::{Kind, Schedule};
pub use server::Proxy;
