//! Do the replicas of a shard really hold the same?
//!
//! Enters: the servers of a shard, one by one. Leaves: nothing, or what is wrong. It holds that a
//! batch in doubt is never sent to a server that does not know what another one has taken.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use clickhouse::Row;
use serde::Deserialize;

use super::{SinkError, Target};

/// Where the inserts into `flows` are remembered.
#[derive(Clone, Debug, PartialEq, Eq, Row, Deserialize)]
struct Log {
    engine: String,
    /// Of the table: the same if two addresses are of one server.
    uuid: String,
    /// In `ZooKeeper` or Keeper; empty if it is not replicated.
    path: String,
    /// Replicas that are registered there.
    replicas: u32,
}

const SQL: &str = "\
    SELECT engine, toString(uuid) AS uuid, \
    ifNull((SELECT any(zookeeper_path) FROM system.replicas \
     WHERE database = {database:String} AND table = 'flows'), '') AS path, \
    toUInt32(ifNull((SELECT max(total_replicas) FROM system.replicas \
     WHERE database = {database:String} AND table = 'flows'), 0)) AS replicas \
    FROM system.tables WHERE database = {database:String} AND name = 'flows'";

/// What is known of the servers that were seen.
#[derive(Debug, Default)]
pub struct Replicas {
    /// The first of each shard that answered, by its address.
    seen: Mutex<BTreeMap<usize, (String, Log)>>,
}

impl Replicas {
    /// Compares a server that answers, whose tables are there, with the others of its shard.
    ///
    /// # Errors
    /// It shares no deduplication log with them, or does not answer.
    pub async fn check(&self, target: &Target) -> Result<(), SinkError> {
        let address = target.client.address();
        let parameters = [("database", address.database.clone())];
        let found = target.client.rows::<Log>("flows", SQL, &parameters).await?;
        let Some(log) = found.into_iter().next() else { return Ok(()) };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (other, known) =
            seen.entry(target.shard()).or_insert_with(|| (address.to_string(), log.clone()));
        match difference(known, &log) {
            None => Ok(()),
            Some(problem) => Err(SinkError::NoReplicas {
                address: address.to_string(),
                other: other.clone(),
                problem,
            }),
        }
    }
}

/// Why two servers have no deduplication log in common.
fn difference(a: &Log, b: &Log) -> Option<String> {
    const NO_UUID: &str = "00000000-0000-0000-0000-000000000000";
    if a.uuid == b.uuid && a.uuid != NO_UUID {
        return None;
    }
    for Log { engine, path, .. } in [a, b] {
        // ClickHouse Cloud's SharedMergeTree has its own.
        if !engine.starts_with("Replicated") && !engine.starts_with("Shared") {
            return Some(format!("the engine of flows is {engine}, not ReplicatedMergeTree"));
        }
        if engine.starts_with("Replicated") && path.is_empty() {
            return Some("flows has no path in ZooKeeper".into());
        }
    }
    if a.path != b.path {
        return Some(format!("flows is at {} and {} in ZooKeeper", a.path, b.path));
    }
    if b.engine.starts_with("Replicated") && b.replicas < 2 {
        return Some(format!("{} in ZooKeeper knows only one replica", b.path));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_log_is_a_shared_one() {
        let log = |engine: &str, uuid: &str, path: &str, replicas| Log {
            engine: engine.into(),
            uuid: uuid.into(),
            path: path.into(),
            replicas,
        };
        let none = "00000000-0000-0000-0000-000000000000";
        let plain = |uuid| log("MergeTree", uuid, "", 0);
        let replicated = |uuid, path| log("ReplicatedMergeTree", uuid, path, 2);
        assert_eq!(difference(&plain("a"), &plain("a")), None, "one server");
        assert_eq!(difference(&replicated("a", "/f"), &replicated("b", "/f")), None);
        for (a, b, words) in [
            (plain("a"), plain("b"), "MergeTree, not Replicated"),
            (plain(none), plain(none), "MergeTree, not Replicated"),
            (replicated("a", "/f"), plain("b"), "MergeTree, not Replicated"),
            (replicated("a", "/f"), replicated("b", "/g"), "/f and /g"),
            (replicated("a", ""), replicated("b", ""), "no path"),
            (replicated("a", "/f"), log("ReplicatedMergeTree", "b", "/f", 1), "only one"),
        ] {
            let problem = difference(&a, &b).expect(words);
            assert!(problem.contains(words), "{problem}");
        }
    }
}
