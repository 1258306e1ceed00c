//! Evidence of a batch: enters a table, leaves the questions that tell how many of a batch's rows
//! the table and each of its rollups hold. What must hold: a rollup's answer comes from the same
//! part as its sums, so it has both or neither.

use super::rollup::{ROLLUPS, Rollup};
use super::{Schema, days};
use crate::frozen::Table;

/// One table that must hold all of a batch, and how to ask it.
///
/// Both statements take the parameters `{id:UUID}` and `{exported_at:UInt32}` of the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The table, without its database.
    pub table: String,
    /// Answers one `UInt64`: how many rows of the batch the table holds.
    pub count_sql: String,
    /// For a rollup that missed a batch that its source holds: adds exactly that batch. Sent
    /// once, under a deduplication token of its own (not the batch's: the rollup may have
    /// remembered that one without its part).
    pub repair_sql: Option<String>,
}

impl Schema {
    /// For each table that must hold all of a batch of `table`: the table itself, then every
    /// rollup.
    ///
    /// Within [`Schema::evidence_lasts`] after `exported_at` the answers are final; later rows
    /// have expired, and 0 proves nothing.
    pub fn evidence(&self, table: Table) -> Vec<Evidence> {
        let local = self.local();
        let name = table.name();
        let moment = match table {
            Table::Flows => "exported_at = toDateTime({exported_at:UInt32}, 'UTC')".to_owned(),
            // Rows of one interval; the day around it keeps the question to one partition or two.
            Table::Ledger | Table::Latency => {
                let moment = "toDateTime({exported_at:UInt32}, 'UTC')";
                format!("ts BETWEEN {moment} - 86400 AND {moment} + 86400")
            }
        };
        let own = Evidence {
            table: name.to_owned(),
            count_sql: format!(
                "SELECT count() FROM {local}.{name} WHERE {moment} AND batch_id = {{id:UUID}}"
            ),
            repair_sql: None,
        };
        let rollups: &[Rollup] = if table == Table::Flows { ROLLUPS } else { &[] };
        let rollups = rollups.iter().map(|rollup| Evidence {
            table: rollup.table.to_owned(),
            count_sql: format!(
                "SELECT sum(batch_rows) FROM {local}.{} \
                 WHERE bucket = 0 AND batch_id = {{id:UUID}} \
                 AND exported_day = toDate(toDateTime({{exported_at:UInt32}}, 'UTC'))",
                rollup.table
            ),
            repair_sql: Some(rollup.repair(&local, &moment)),
        });
        std::iter::once(own).chain(rollups).collect()
    }

    /// How long after a batch was frozen its evidence is kept: a day less than raw rows, because
    /// rows expire by the day.
    pub const fn evidence_lasts(&self) -> std::time::Duration {
        days(self.retention.flows_days - 1)
    }
}
