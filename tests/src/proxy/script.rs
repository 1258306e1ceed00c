//! Who decides.

use super::{Fault, Request};

/// What a test decides about each request.
pub(super) type OfRequest = Box<dyn FnMut(&Request) -> Option<Fault> + Send>;
/// What a test decides about each connection, by its number from 0.
pub(super) type OfConnection = Box<dyn FnMut(u64) -> Option<Fault> + Send>;

/// What a test has decided; nothing at first.
pub(super) struct Script {
    pub(super) of_request: OfRequest,
    pub(super) of_connection: OfConnection,
}

impl Default for Script {
    fn default() -> Self {
        Self { of_request: Box::new(|_| None), of_connection: Box::new(|_| None) }
    }
}
