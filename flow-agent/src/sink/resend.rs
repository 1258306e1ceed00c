//! A batch of the quarantine is sent again, for a person.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::aside::Aside;
use super::courier::Courier;
use super::patience::{Limits, Patience};
use super::quarantine::Quarantine;
use super::{DeliveryBook, Endpoints, SinkError};
use crate::frozen::FrozenBatch;
use crate::schema::Schema;

/// Sends a batch once more, for a person who has changed what kept it back: the rows that are
/// there already stay, and what is refused again is an error.
///
/// # Errors
/// The store does not have all of it.
pub async fn resend(
    store: Endpoints,
    schema: Schema,
    batch: FrozenBatch,
    patience: Duration,
    quarantine: &Quarantine,
) -> Result<(), SinkError> {
    let (_stop, stopping) = watch::channel(true);
    let limits = Limits { idle: patience, total: None };
    let courier = Courier {
        store,
        schema,
        book: DeliveryBook::default(),
        patience: Patience::new(stopping, limits),
        // What is refused again stays where it is.
        quarantine: Some(quarantine.clone().closed()),
        size: None,
        through: Notify::new(),
        released: Notify::new(),
        aside: Aside::new(1, 0),
        told: std::sync::Mutex::default(),
    };
    match courier.carry(&Arc::new(batch), true).await.given_up {
        None => Ok(()),
        Some(error) => Err(error),
    }
}
