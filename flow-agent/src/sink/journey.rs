//! One part of a batch on its way: the protocol's steps are done, one after the other, until it
//! has ended.
//!
//! Enters: a frozen batch, the whole or a part. Leaves: what became of it. It holds what
//! [`Protocol`] holds.

use std::time::Instant;

use super::aside::Place;
use super::class::Class;
use super::courier::{Courier, length};
use super::delivery_book::Doubt;
use super::family::LATE;
use super::quarantine::Reason;
use super::reconcile::{Answer, End, Protocol, Step};
use super::retry::Backoff;
use super::{ClickHouse, Course, SinkError};
use crate::frozen::{FrozenBatch, Table};
use crate::schema::Evidence;

/// Repairs of one batch that its rollup refuses because of the rows.
const MOST_REPAIRS: u32 = 3;

/// What became of a batch or a part of one.
pub(super) enum Part {
    Stored,
    /// The store takes none of its rows, or not all of them.
    Refused(SinkError),
    /// It is not known what the store has, or that cannot be made whole.
    Stuck(Reason, &'static str),
    GivenUp(SinkError),
}

/// One part on its way.
pub(super) struct Journey<'a> {
    courier: &'a Courier,
    batch: &'a FrozenBatch,
    evidence: &'a [Evidence],
    course: &'a Course,
    protocol: Protocol,
    backoff: Backoff,
    last: Option<SinkError>,
    repaired: bool,
    /// None until something has failed.
    aside: Option<Place<'a>>,
    /// Somebody had to do something.
    held: bool,
    /// Repairs whose rows were refused.
    refused_repairs: u32,
    /// Inserts that were sent, or may have been.
    sends: u32,
}

impl<'a> Journey<'a> {
    pub fn new(
        courier: &'a Courier,
        batch: &'a FrozenBatch,
        evidence: &'a [Evidence],
        course: &'a Course,
        in_doubt: bool,
    ) -> Self {
        Self {
            courier,
            batch,
            evidence,
            course,
            protocol: Protocol::new(u64::from(batch.rows), evidence.len() - 1, in_doubt),
            backoff: Backoff::default(),
            last: None,
            repaired: false,
            aside: None,
            held: false,
            refused_repairs: 0,
            sends: u32::from(in_doubt),
        }
    }

    /// To its end, or until the courier's patience is over.
    pub async fn go(mut self) -> Part {
        let courier = self.courier;
        self.course.begin(self.protocol.is_in_doubt());
        tokio::select! {
            biased;
            part = self.travel() => part,
            () = courier.patience.over() => {
                if self.protocol.is_in_doubt() {
                    courier.book.doubt(Doubt::Open);
                }
                Part::GivenUp(self.last.take().unwrap_or(SinkError::TooLate))
            }
        }
    }

    async fn travel(&mut self) -> Part {
        let courier = self.courier;
        if self.protocol.is_in_doubt() && courier.store.shards() > 1 {
            self.locate().await;
        }
        loop {
            let step = self.protocol.step();
            let answer = match step {
                Step::End(end) => return self.end(end),
                step if self.protocol.is_in_doubt() && courier.is_too_late(self.batch, step) => {
                    courier.book.doubt(Doubt::Stuck);
                    return Part::Stuck(Reason::Late, LATE);
                }
                Step::Pause { held } => {
                    self.pause(held).await;
                    Answer::Done
                }
                step => match self.attempt(step).await {
                    Ok(answer) => answer,
                    Err((class, error)) => {
                        self.last = Some(error);
                        let refused = matches!(step, Step::Repair { .. }) && class == Class::Rows;
                        self.refused_repairs += u32::from(refused);
                        if self.refused_repairs == MOST_REPAIRS {
                            courier.book.doubt(Doubt::Stuck);
                            return Part::Stuck(
                                Reason::Stuck,
                                "a rollup refuses what is made of its rows",
                            );
                        }
                        Answer::Failed(class)
                    }
                },
            };
            self.protocol.answer(answer);
        }
    }

    /// A step; one of a batch that waits aside takes its turn. What fails is told, and puts the batch
    /// aside.
    async fn attempt(&mut self, step: Step) -> Result<Answer, (Class, SinkError)> {
        let courier = self.courier;
        let _turn = match &self.aside {
            Some(_) => Some(courier.aside.turns.acquire().await),
            None => None,
        };
        let fresh = matches!(step, Step::Send { .. }) && !self.protocol.is_in_doubt();
        // While something is wrong a server is asked first: a batch that hangs in one that does
        // not answer is in doubt, and bound to it.
        if fresh
            && !courier.aside.is_empty()
            && let Err(error) =
                Course::default().send(&courier.store, Instant::now, ClickHouse::probe).await
        {
            self.wait_aside();
            courier.tell(Class::of(&error), &error);
            return Err((Class::NotSent, error));
        }
        self.perform(step).await.map_err(|error| {
            self.wait_aside();
            let class = Class::of(&error);
            courier.tell(class, &error);
            (class, error)
        })
    }

    async fn perform(&mut self, step: Step) -> Result<Answer, SinkError> {
        let Self { courier, batch, evidence, .. } = *self;
        match step {
            Step::Send { token, attempt } => {
                let first = !self.protocol.is_in_doubt();
                let token = name(batch, "", token);
                let query = format!("{}-{attempt}", batch.id);
                let started = Instant::now();
                let insert =
                    async |client: &ClickHouse| client.insert_block(batch, &token, &query).await;
                let sent = self.course.send(&courier.store, Instant::now, insert).await;
                let class = sent.as_ref().err().map(Class::of);
                courier.book.inserted(class.map_or_else(Default::default, Into::into));
                self.sends += u32::from(class != Some(Class::NotSent));
                sent?;
                if let Some(size) = courier.size.as_ref().filter(|_| first)
                    && batch.table == Table::Flows
                {
                    size.inserted(batch.rows as usize, started.elapsed());
                }
            }
            Step::Kill => self.course.end_batch(&courier.store, Instant::now, batch).await?,
            Step::Sync => self.course.catch_up(&courier.store, Instant::now, evidence).await?,
            Step::Ask => {
                let count = async |client: &ClickHouse| client.count(batch, evidence).await;
                return self.ask(count).await.map(Answer::Counted);
            }
            Step::Repair { rollup, token, attempt } => {
                let rollup = &evidence[rollup + 1];
                let token = name(batch, &rollup.table, token);
                let query = format!("{}-repair-{attempt}", batch.id);
                let repair =
                    async |client: &ClickHouse| client.repair(batch, rollup, &token, &query).await;
                self.ask(repair).await?;
                self.repaired = true;
            }
            Step::Restore { attempt } => {
                let query = format!("{}-restore-{attempt}", batch.id);
                self.ask(async |client| client.restore(batch, &query).await).await?;
                self.repaired = true;
            }
            Step::Remove => {
                let query = format!("{}-remove", batch.id);
                self.ask(async |client| client.remove(batch, &query).await).await?;
                self.repaired = true;
            }
            Step::Pause { .. } | Step::End(_) => {}
        }
        Ok(Answer::Done)
    }

    /// To the replica that was brought up to date.
    async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&ClickHouse) -> Result<T, SinkError>,
    ) -> Result<T, SinkError> {
        self.course.hold(&self.courier.store, Instant::now, question).await
    }

    /// An agent before this one may have sent the batch to any shard: it is bound to the one that
    /// has something of it, or to none if all say that they have nothing.
    async fn locate(&mut self) {
        let Self { courier, batch, evidence, .. } = *self;
        for shard in 0..courier.store.shards() {
            let course = Course::at(shard);
            let found = loop {
                let asked = course.look(&courier.store, Instant::now, batch, evidence).await;
                match asked {
                    Ok(counts) => break counts.iter().any(|count| *count > 0),
                    Err(error) => {
                        let class = Class::of(&error);
                        courier.tell(class, &error);
                        self.last = Some(error);
                        self.wait_aside();
                        self.pause(class == Class::Held).await;
                    }
                }
            };
            if found {
                self.course.bind(shard);
                return;
            }
        }
    }

    fn end(&mut self, end: End) -> Part {
        let courier = self.courier;
        let doubted = self.protocol.is_in_doubt();
        let (doubt, part) = match end {
            End::Acknowledged { .. } => {
                let doubt = match (self.repaired, self.sends) {
                    (true, _) => Doubt::Repaired,
                    (false, 0 | 1) => Doubt::Stored,
                    (false, _) => Doubt::Sent,
                };
                courier.patience.progress(Instant::now());
                courier.through.notify_waiters();
                if self.held {
                    courier.released.notify_waiters();
                }
                (doubt, Part::Stored)
            }
            End::Refused => {
                let error = self.last.take().unwrap_or(SinkError::TooLate);
                (Doubt::Refused, Part::Refused(error))
            }
            End::Stuck(why) => (Doubt::Stuck, Part::Stuck(Reason::Stuck, why.text())),
        };
        if doubted {
            courier.book.doubt(doubt);
        }
        if self.repaired {
            let (id, table) = (self.batch.id, self.batch.table.name());
            tracing::warn!("batch {id} was in {table} or a rollup in part: {}", doubt.label());
        }
        part
    }

    async fn pause(&mut self, held: bool) {
        self.held |= held;
        let pause = length(&mut self.backoff, held);
        let pause = self.aside.as_ref().map_or(pause, |place| place.slower(pause));
        self.courier.rest(pause, held).await;
    }

    /// From now on it waits, if it does not yet.
    fn wait_aside(&mut self) {
        let Self { courier, batch, .. } = *self;
        self.aside.get_or_insert_with(|| courier.aside.place(batch));
    }
}

/// A token: the batch, the rollup that is repaired, and a number if one was not enough.
fn name(batch: &FrozenBatch, rollup: &str, number: u32) -> String {
    let rollup = if rollup.is_empty() { String::new() } else { format!("-{rollup}") };
    let number = if number == 0 { String::new() } else { format!("-{}", number + 1) };
    format!("{}{rollup}{number}", batch.id)
}
