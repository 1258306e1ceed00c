//! What the tests share: an independent reference for metering.

pub mod reference;
