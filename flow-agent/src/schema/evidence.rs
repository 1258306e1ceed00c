//! Evidence of a batch: enters a table, leaves the questions that tell how many of a batch's rows
//! the table and each of its rollups hold. What must hold: a rollup's answer comes from the same
//! part as its sums, so it has both or neither.

use super::rollup::{ROLLUPS, Rollup};
use super::{Schema, days};
use crate::frozen::Table;

/// One table that must hold all of a batch, and how to ask it.
///
/// All statements take the parameters `{id:UUID}` and `{exported_at:UInt32}` of the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The table, without its database.
    pub table: String,
    /// Answers one `UInt64`: how many rows of the batch the table holds.
    pub count_sql: String,
    /// Answers the ids of the batch and its parts, and maybe of others: those of this moment that
    /// begin with `{family:String}`, as texts.
    pub family_sql: String,
    /// For a rollup that missed a batch that its source holds: adds exactly that batch. Sent
    /// once, under a deduplication token of its own (not the batch's: the rollup may have
    /// remembered that one without its part).
    pub repair_sql: Option<String>,
}

const FAMILY: &str = "toString(batch_id)";
const OF_FAMILY: &str = "startsWith(toString(batch_id), {family:String})";

/// As long as the tables `ledger` and `latency` keep rows.
const LEDGER_DAYS: u32 = 400;
const LATENCY_DAYS: u32 = 90;

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
            family_sql: format!(
                "SELECT DISTINCT {FAMILY} FROM {local}.{name} WHERE {moment} AND {OF_FAMILY}"
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
            family_sql: format!(
                "SELECT DISTINCT {FAMILY} FROM {local}.{} WHERE bucket = 0 AND {OF_FAMILY} \
                 AND exported_day = toDate(toDateTime({{exported_at:UInt32}}, 'UTC'))",
                rollup.table
            ),
            repair_sql: Some(rollup.repair(&local, &moment)),
        });
        std::iter::once(own).chain(rollups).collect()
    }

    /// How long after a batch was frozen its evidence is kept: a day less than its rows, because
    /// rows expire by the day.
    pub fn evidence_lasts(&self, table: Table) -> std::time::Duration {
        let kept = self.retention;
        let rows = match table {
            Table::Flows => kept.flows_days.min(kept.flows_1m_days).min(kept.flows_1h_days),
            Table::Ledger => LEDGER_DAYS,
            Table::Latency => LATENCY_DAYS,
        };
        days(rows - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Retention;

    #[test]
    fn evidence_ends_before_the_first_of_the_rows_that_give_it() {
        let schema = Schema::new("flow", false);
        assert_eq!(schema.evidence_lasts(Table::Flows), days(14));
        assert_eq!(schema.evidence_lasts(Table::Ledger), days(399));
        let short = Retention { flows_days: 15, flows_1m_days: 3, flows_1h_days: 400 };
        assert_eq!(schema.clone().keeping(short).evidence_lasts(Table::Flows), days(2));
        let script = schema.script();
        // Rows of the last second of a day live until the end of the 15th day after it.
        assert!(script.contains("exported_day + toIntervalDay(17) WHERE batch_rows > 0"));
    }
}
