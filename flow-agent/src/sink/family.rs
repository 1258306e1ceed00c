//! What is known of the parts of a batch in doubt.
//!
//! Enters: a batch that somebody may have split before. Leaves: ids that are in the store, or on
//! their way into it, or in the quarantine; those of the batch's parts are among them. It holds
//! that a batch of which any part is somewhere is never sent whole.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::class::Class;
use super::courier::{Courier, length};
use super::reconcile::Step;
use super::retry::Backoff;
use super::{ClickHouse, Course, SinkError};
use crate::clock::wall_clock;
use crate::frozen::FrozenBatch;
use crate::schema::Evidence;

/// Characters of an id.
const ID: &str = "36";

/// What is said of a batch whose evidence has expired.
pub(super) const LATE: &str = "an agent may have stored it, and the rows that would tell have expired or \
                    are about to: it is not sent, because it could come twice";

impl Courier {
    /// The ids that the store and the quarantine know, as far as they may be of parts of a batch;
    /// none for one that nobody can have split. A server that does not answer is waited for.
    pub(super) async fn known(
        &self,
        batch: &FrozenBatch,
        in_doubt: bool,
        evidence: &[Evidence],
    ) -> Result<HashSet<Uuid>, SinkError> {
        let mut known = HashSet::new();
        if !in_doubt || batch.rows < 2 {
            return Ok(known);
        }
        let mut backoff = Backoff::default();
        for shard in 0..self.store.shards() {
            loop {
                let asked = self.known_at(shard, batch, evidence).await;
                let error = match asked {
                    Ok(ids) => {
                        known.extend(ids);
                        break;
                    }
                    Err(error) => error,
                };
                let class = Class::of(&error);
                self.tell(class, &error);
                let held = class == Class::Held;
                tokio::select! {
                    () = self.rest(length(&mut backoff, held), held) => {}
                    () = self.patience.over() => return Err(error),
                }
            }
        }
        Ok(known)
    }

    async fn known_at(
        &self,
        shard: usize,
        batch: &FrozenBatch,
        evidence: &[Evidence],
    ) -> Result<Vec<Uuid>, SinkError> {
        let mut ids = match &self.quarantine {
            Some(quarantine) => quarantine.ids()?,
            None => Vec::new(),
        };
        let course = Course::at(shard);
        let ask = async |client: &ClickHouse| client.family(batch, evidence).await;
        tokio::select! {
            found = course.send(&self.store, Instant::now, ask) => ids.extend(found?),
            () = self.patience.over() => return Err(SinkError::TooLate),
        }
        Ok(ids)
    }

    /// A batch that may be there is not sent when nothing can tell any more that it is.
    pub(super) fn is_too_late(&self, batch: &FrozenBatch, step: Step) -> bool {
        let lasts = self.schema.evidence_lasts(batch.table);
        trusts_evidence(step) && is_late(batch.exported_at, lasts, wall_clock())
    }

    /// A part that was put aside and is in the store now has nothing to wait for.
    pub(super) fn no_longer_aside(&self, part: &FrozenBatch, known: &HashSet<Uuid>) {
        if let Some(quarantine) = &self.quarantine
            && quarantine.is_open()
            && known.contains(&part.id)
            && quarantine.has(part.id)
            && let Err(error) = quarantine.remove(part.id)
        {
            tracing::warn!("{error}; the store has the batch {}, the file is not needed", part.id);
        }
    }
}

impl ClickHouse {
    /// Ids in the tables, or of inserts that run, that begin as those of a batch and its parts.
    async fn family(
        &self,
        batch: &FrozenBatch,
        tables: &[Evidence],
    ) -> Result<Vec<Uuid>, SinkError> {
        self.catch_up(tables).await?;
        let family = batch.family();
        // First what runs: what ends meanwhile is in a table then.
        let running = format!(
            "SELECT DISTINCT substring(query_id, 1, {ID}) FROM system.processes \
             WHERE startsWith(query_id, {{family:String}})"
        );
        let questions =
            std::iter::once(&running).chain(tables.iter().map(|table| &table.family_sql));
        let mut ids = Vec::new();
        for sql in questions {
            let query = self.client().query(sql);
            let query = query.param("family", &family);
            let query = query.param("exported_at", batch.exported_at);
            let found: Vec<String> = self.ask("find parts of a batch", query.fetch_all()).await?;
            ids.extend(found.iter().filter_map(|id| id.parse::<Uuid>().ok()));
        }
        Ok(ids)
    }
}

/// True for a step that is safe only while evidence of the batch is kept.
fn trusts_evidence(step: Step) -> bool {
    matches!(step, Step::Send { .. } | Step::Repair { .. } | Step::Restore { .. } | Step::Remove)
}

/// True once evidence of what was frozen then (Unix seconds) may have expired.
fn is_late(exported_at: u32, lasts: Duration, now_ns: u64) -> bool {
    now_ns / 1_000_000_000 >= u64::from(exported_at) + lasts.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_its_evidence_is_sent_no_more() {
        const DAY: u64 = 86_400;
        let (lasts, frozen) = (Duration::from_secs(14 * DAY), 1_000_000_000_u32);
        let after = |seconds: u64| (u64::from(frozen) + seconds) * 1_000_000_000;
        assert!(!is_late(frozen, lasts, after(14 * DAY - 1)));
        assert!(is_late(frozen, lasts, after(14 * DAY)));
        assert!(!is_late(frozen, lasts, 0), "a clock that was set back");
        for step in [
            Step::Send { token: 0, attempt: 1 },
            Step::Repair { rollup: 0, token: 0, attempt: 1 },
            Step::Restore { attempt: 1 },
            Step::Remove,
        ] {
            assert!(trusts_evidence(step), "{step:?}");
        }
        assert!(!trusts_evidence(Step::Ask), "all of it can be there nevertheless");
    }
}
