//! One batch on its way, wholly or in parts; each part makes a [`Journey`] of its own.
//!
//! Enters: a frozen batch. Leaves: what became of it. A batch whose rows are refused is split
//! until the refused rows are alone, and those go to the quarantine; a batch that is given up is
//! as it was.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::aside::Aside;
use super::class::Class;
use super::delivery_book::DeliveryBook;
use super::journey::{Journey, Part};
use super::patience::Patience;
use super::quarantine::{Quarantine, Reason};
use super::retry::{Backoff, TELL_EVERY, chance};
use super::{Course, Endpoints, SinkError};
use crate::batch::BatchSize;
use crate::clock::wall_clock;
use crate::frozen::FrozenBatch;
use crate::schema::Schema;

/// Splits of one batch: some twenty rows that are refused among a million are found by so many.
/// When there are more, what is refused goes to the quarantine in larger parts.
const MOST_SPLITS: usize = 400;

/// What all batches on their way share.
pub(super) struct Courier {
    pub store: Endpoints,
    pub schema: Schema,
    pub book: DeliveryBook,
    pub patience: Patience,
    /// None: rows that are refused are given up with their error.
    pub quarantine: Option<Quarantine>,
    /// Hears of the times of inserts, if batches are made here.
    pub size: Option<BatchSize>,
    /// Wakes those that wait for a store that is away when one has got through.
    pub through: Notify,
    /// Wakes those that wait for somebody when one that was held has got through.
    pub released: Notify,
    /// Batches that wait for something and hold no slot.
    pub aside: Aside,
    /// When a failure was last told.
    pub told: std::sync::Mutex<Option<Instant>>,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// What the store has.
    pub stored: Vec<Arc<FrozenBatch>>,
    /// What is in the quarantine.
    pub quarantined: Vec<(Arc<FrozenBatch>, Reason)>,
    /// Why it was given up; then all of it is to be sent again, if anybody can.
    pub given_up: Option<SinkError>,
    /// What was neither stored nor put aside when it was given up.
    pub rest: Vec<Arc<FrozenBatch>>,
}

impl Courier {
    /// Brings a batch to the store, wholly or, if rows of it are refused, in parts.
    pub async fn carry(&self, batch: &Arc<FrozenBatch>, in_doubt: bool) -> Carried {
        let course = Course::default();
        let evidence = self.schema.evidence(batch.table);
        let mut carried = Carried::default();
        let mut parts = vec![batch.clone()];
        let mut splits = 0;
        let known = match self.known(batch, in_doubt, &evidence).await {
            Ok(known) => known,
            Err(error) => {
                carried.given_up = Some(error);
                carried.rest = parts;
                return carried;
            }
        };
        while let Some(part) = parts.pop() {
            // Sent whole, what is there of it would come twice.
            if !known.contains(&part.id)
                && part.has_part_in(&known)
                && let Some([first, second]) = part.halves()
            {
                parts.extend([Arc::new(second), Arc::new(first)]);
                continue;
            }
            // Whoever splits a batch again gets the same parts, which may be there already.
            let journey = Journey::new(self, &part, &evidence, &course, in_doubt);
            let (reason, problem) = match journey.go().await {
                Part::Stored => {
                    self.no_longer_aside(&part, &known);
                    carried.stored.push(part);
                    continue;
                }
                Part::GivenUp(error) => {
                    carried.given_up = Some(error);
                    carried.rest = std::iter::once(part).chain(parts).collect();
                    return carried;
                }
                Part::Refused(error) => {
                    let halves = (splits < MOST_SPLITS).then(|| part.halves()).flatten();
                    if let Some([first, second]) = halves {
                        splits += 1;
                        parts.extend([Arc::new(second), Arc::new(first)]);
                        continue;
                    }
                    (Reason::Refused, error.to_string())
                }
                Part::Stuck(reason, why) => (reason, why.to_owned()),
            };
            match self.put_aside(&part, reason, &problem).await {
                Ok(()) => carried.quarantined.push((part, reason)),
                Err(error) => {
                    carried.given_up = Some(error);
                    carried.rest = std::iter::once(part).chain(parts).collect();
                    return carried;
                }
            }
        }
        carried
    }

    /// Into the quarantine; a disk that fails is waited for.
    async fn put_aside(
        &self,
        part: &FrozenBatch,
        reason: Reason,
        problem: &str,
    ) -> Result<(), SinkError> {
        let refused = || SinkError::Refused {
            address: self.store.address().to_string(),
            what: format!("take a batch of {}", part.table.name()),
            problem: problem.to_owned(),
        };
        let Some(quarantine) = self.quarantine.as_ref().filter(|quarantine| quarantine.is_open())
        else {
            return Err(refused());
        };
        let server = self.store.address().to_string();
        loop {
            let Err(error) = quarantine.put(part, reason, problem, &server, wall_clock()) else {
                tracing::error!(
                    "{} rows of {} are not in the store but in {} (flow-agent quarantine show \
                     {}): {problem}",
                    part.rows,
                    part.table.name(),
                    quarantine.dir().display(),
                    part.id
                );
                return Ok(());
            };
            let error = SinkError::from(error);
            self.tell(Class::Held, &error);
            tokio::select! {
                () = self.patience.pause(Backoff::longest(chance())) => {}
                () = self.patience.over() => return Err(error),
            }
        }
    }

    /// Waits so long at most; less when others get through.
    pub(super) async fn rest(&self, pause: Duration, held: bool) {
        tokio::select! {
            () = self.patience.pause(pause) => {}
            () = self.through.notified(), if !held => {}
            () = self.released.notified(), if held => {}
        }
    }

    /// Says what is wrong, but not at each try.
    pub(super) fn tell(&self, class: Class, error: &SinkError) {
        let text = error.to_string();
        self.book.failed(reason(class), class, &text);
        if class == Class::NotSent
            && let Some(size) = &self.size
        {
            size.failed();
        }
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if told.is_some_and(|at| now.saturating_duration_since(at) < TELL_EVERY) {
            return;
        }
        *told = Some(now);
        drop(told);
        match (self.patience.left(now), class) {
            (Some(left), _) => {
                tracing::warn!("{text} (waiting up to {} s more)", left.max(ROUND).as_secs());
            }
            (None, Class::Held) => {
                tracing::error!("{text} (batches are kept; trying again until that is changed)");
            }
            (None, _) => tracing::warn!("{text} (trying again until it answers)"),
        }
    }
}

const ROUND: Duration = Duration::from_secs(1);

/// How long it is waited before the next try.
pub(super) fn length(backoff: &mut Backoff, held: bool) -> Duration {
    if held { Backoff::longest(chance()) } else { backoff.next(chance()) }
}

/// A short name of why something is tried again.
fn reason(class: Class) -> &'static str {
    match class {
        Class::NotSent => "no_connection",
        Class::Transient => "passing",
        Class::Held => "held",
        Class::Rows => "rows",
    }
}
