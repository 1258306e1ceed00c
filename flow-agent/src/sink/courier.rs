//! One batch on its way: the protocol's steps are done, one after the other, until it has ended.
//!
//! Enters: a frozen batch. Leaves: what became of it. It holds what [`Protocol`] holds; a batch
//! whose rows are refused is split until the refused rows are alone, and those go to the
//! quarantine; a batch that is given up is as it was.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::aside::{Aside, Place};
use super::class::Class;
use super::delivery_book::{DeliveryBook, Doubt};
use super::family::LATE;
use super::patience::Patience;
use super::quarantine::{Quarantine, Reason};
use super::reconcile::{Answer, End, Protocol, Step};
use super::retry::{Backoff, TELL_EVERY, chance};
use super::{ClickHouse, Course, Endpoints, SinkError};
use crate::batch::BatchSize;
use crate::clock::wall_clock;
use crate::frozen::{FrozenBatch, Table};
use crate::schema::{Evidence, Schema};

/// Splits of one batch: some twenty rows that are refused among a million are found by so many.
/// When there are more, what is refused goes to the quarantine in larger parts.
const MOST_SPLITS: usize = 400;

/// Repairs of one batch that its rollup refuses because of the rows.
const MOST_REPAIRS: u32 = 3;

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

/// What became of a batch or a part of one.
enum Part {
    Stored,
    Refused(SinkError),
    Stuck(Reason, &'static str),
    GivenUp(SinkError),
}

/// One part on its way.
struct Journey<'a> {
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
            let ended = self.part(&part, in_doubt, &course, &evidence).await;
            let (reason, problem) = match ended {
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

    async fn part<'a>(
        &'a self,
        batch: &'a FrozenBatch,
        in_doubt: bool,
        course: &'a Course,
        evidence: &'a [Evidence],
    ) -> Part {
        course.begin(in_doubt);
        let mut journey = Journey {
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
        };
        tokio::select! {
            biased;
            part = self.travel(&mut journey, in_doubt) => part,
            () = self.patience.over() => {
                if journey.protocol.is_in_doubt() {
                    self.book.doubt(Doubt::Open);
                }
                Part::GivenUp(journey.last.take().unwrap_or(SinkError::TooLate))
            }
        }
    }

    async fn travel<'a>(&'a self, journey: &mut Journey<'a>, in_doubt: bool) -> Part {
        if in_doubt && self.store.shards() > 1 {
            self.locate(journey).await;
        }
        loop {
            let step = journey.protocol.step();
            let answer = match step {
                Step::End(end) => return self.end(journey, end),
                step if journey.protocol.is_in_doubt() && self.is_too_late(journey.batch, step) => {
                    self.book.doubt(Doubt::Stuck);
                    return Part::Stuck(Reason::Late, LATE);
                }
                Step::Pause { held } => {
                    self.pause(journey, held).await;
                    Answer::Done
                }
                step => match self.attempt(journey, step).await {
                    Ok(answer) => answer,
                    Err((class, error)) => {
                        journey.last = Some(error);
                        let refused = matches!(step, Step::Repair { .. }) && class == Class::Rows;
                        journey.refused_repairs += u32::from(refused);
                        if journey.refused_repairs == MOST_REPAIRS {
                            self.book.doubt(Doubt::Stuck);
                            return Part::Stuck(
                                Reason::Stuck,
                                "a rollup refuses what is made of its rows",
                            );
                        }
                        Answer::Failed(class)
                    }
                },
            };
            journey.protocol.answer(answer);
        }
    }

    /// A step; one of a batch that was put aside takes its turn. What fails is told, and puts the
    /// batch aside.
    async fn attempt<'a>(
        &'a self,
        journey: &mut Journey<'a>,
        step: Step,
    ) -> Result<Answer, (Class, SinkError)> {
        let _turn = match &journey.aside {
            Some(_) => Some(self.aside.turns.acquire().await),
            None => None,
        };
        let fresh = matches!(step, Step::Send { .. }) && !journey.protocol.is_in_doubt();
        // While something is wrong a server is asked first: a batch that hangs in one that does
        // not answer is in doubt, and bound to it.
        if fresh
            && !self.aside.is_empty()
            && let Err(error) =
                Course::default().send(&self.store, Instant::now, ClickHouse::probe).await
        {
            journey.aside.get_or_insert_with(|| self.aside.place(journey.batch));
            self.tell(Class::of(&error), &error);
            return Err((Class::NotSent, error));
        }
        self.perform(journey, step).await.map_err(|error| {
            journey.aside.get_or_insert_with(|| self.aside.place(journey.batch));
            let class = Class::of(&error);
            self.tell(class, &error);
            (class, error)
        })
    }

    async fn perform(&self, journey: &mut Journey<'_>, step: Step) -> Result<Answer, SinkError> {
        let Journey { batch, evidence, .. } = *journey;
        match step {
            Step::Send { token, attempt } => {
                let first = !journey.protocol.is_in_doubt();
                let token = name(batch, "", token);
                let query = format!("{}-{attempt}", batch.id);
                let started = Instant::now();
                let insert =
                    async |client: &ClickHouse| client.insert_block(batch, &token, &query).await;
                let sent = journey.course.send(&self.store, Instant::now, insert).await;
                let class = sent.as_ref().err().map(Class::of);
                self.book.inserted(class.map_or_else(Default::default, Into::into));
                journey.sends += u32::from(class != Some(Class::NotSent));
                sent?;
                if let Some(size) = self.size.as_ref().filter(|_| first)
                    && batch.table == Table::Flows
                {
                    size.inserted(batch.rows as usize, started.elapsed());
                }
            }
            Step::Kill => journey.course.end_batch(&self.store, Instant::now, batch).await?,
            Step::Sync => journey.course.catch_up(&self.store, Instant::now, evidence).await?,
            Step::Ask => {
                let count = async |client: &ClickHouse| client.count(batch, evidence).await;
                return self.ask(journey, count).await.map(Answer::Counted);
            }
            Step::Repair { rollup, token, attempt } => {
                let rollup = &evidence[rollup + 1];
                let token = name(batch, &rollup.table, token);
                let query = format!("{}-repair-{attempt}", batch.id);
                let repair =
                    async |client: &ClickHouse| client.repair(batch, rollup, &token, &query).await;
                self.ask(journey, repair).await?;
                journey.repaired = true;
            }
            Step::Restore { attempt } => {
                let query = format!("{}-restore-{attempt}", batch.id);
                self.ask(journey, async |client| client.restore(batch, &query).await).await?;
                journey.repaired = true;
            }
            Step::Remove => {
                let query = format!("{}-remove", batch.id);
                self.ask(journey, async |client| client.remove(batch, &query).await).await?;
                journey.repaired = true;
            }
            Step::Pause { .. } | Step::End(_) => {}
        }
        Ok(Answer::Done)
    }

    /// To the replica that was brought up to date.
    async fn ask<T>(
        &self,
        journey: &Journey<'_>,
        question: impl AsyncFnOnce(&ClickHouse) -> Result<T, SinkError>,
    ) -> Result<T, SinkError> {
        journey.course.hold(&self.store, Instant::now, question).await
    }

    /// An agent before this one may have sent the batch to any shard: it is bound to the one that
    /// has something of it, or to none if all say that they have nothing.
    async fn locate<'a>(&'a self, journey: &mut Journey<'a>) {
        let (batch, evidence) = (journey.batch, journey.evidence);
        for shard in 0..self.store.shards() {
            let course = Course::at(shard);
            let found = loop {
                let asked = course.look(&self.store, Instant::now, batch, evidence).await;
                match asked {
                    Ok(counts) => break counts.iter().any(|count| *count > 0),
                    Err(error) => {
                        let class = Class::of(&error);
                        self.tell(class, &error);
                        journey.last = Some(error);
                        journey.aside.get_or_insert_with(|| self.aside.place(batch));
                        self.pause(journey, class == Class::Held).await;
                    }
                }
            };
            if found {
                journey.course.bind(shard);
                return;
            }
        }
    }

    fn end(&self, journey: &mut Journey<'_>, end: End) -> Part {
        let doubted = journey.protocol.is_in_doubt();
        let (doubt, part) = match end {
            End::Acknowledged { .. } => {
                let doubt = match (journey.repaired, journey.sends) {
                    (true, _) => Doubt::Repaired,
                    (false, 0 | 1) => Doubt::Stored,
                    (false, _) => Doubt::Sent,
                };
                self.patience.progress(Instant::now());
                self.through.notify_waiters();
                if journey.held {
                    self.released.notify_waiters();
                }
                (doubt, Part::Stored)
            }
            End::Refused => {
                let error = journey.last.take().unwrap_or(SinkError::TooLate);
                (Doubt::Refused, Part::Refused(error))
            }
            End::Stuck(why) => (Doubt::Stuck, Part::Stuck(Reason::Stuck, why.text())),
        };
        if doubted {
            self.book.doubt(doubt);
        }
        if journey.repaired {
            let (id, table) = (journey.batch.id, journey.batch.table.name());
            tracing::warn!("batch {id} was in {table} or a rollup in part: {}", doubt.label());
        }
        part
    }

    async fn pause(&self, journey: &mut Journey<'_>, held: bool) {
        journey.held |= held;
        let backoff = &mut journey.backoff;
        let pause = length(backoff, held);
        let pause = journey.aside.as_ref().map_or(pause, |place| place.slower(pause));
        self.rest(pause, held).await;
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

/// A token: the batch, the rollup that is repaired, and a number if one was not enough.
fn name(batch: &FrozenBatch, rollup: &str, number: u32) -> String {
    let rollup = if rollup.is_empty() { String::new() } else { format!("-{rollup}") };
    let number = if number == 0 { String::new() } else { format!("-{}", number + 1) };
    format!("{}{rollup}{number}", batch.id)
}
