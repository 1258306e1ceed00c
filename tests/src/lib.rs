//! What the tests share: an independent reference for metering, and captures to try it on.

pub mod reference;
pub mod wild;
