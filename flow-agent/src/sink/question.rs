//! Questions of a person to the store: enters SQL with its parameters, leaves
//! the answer piece by piece. What must hold: an answer of any size takes
//! little memory; a question can be watched and ended by its id.

use uuid::Uuid;

use super::{ClickHouse, SinkError};

/// A question.
#[derive(Debug, Clone)]
pub struct Question {
    /// What the store knows it by while it runs.
    pub id: String,
    /// In SQL.
    pub sql: String,
    /// Of the answer, as ClickHouse calls it.
    pub format: String,
    /// For `{name:Type}` in the SQL.
    pub parameters: Vec<(String, String)>,
}

/// How far a question is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// Rows read.
    pub rows: u64,
    /// Octets read.
    pub bytes: u64,
    /// Rows that will be read, as far as is known.
    pub total_rows: u64,
}

impl Question {
    /// A question with an id of its own.
    pub fn new(sql: impl Into<String>, format: &str) -> Self {
        let id = Uuid::now_v7().to_string();
        Self { id, sql: sql.into(), format: format.into(), parameters: Vec::new() }
    }
}

/// As the store reads a parameter's value: escaped like a tab-separated field.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

impl ClickHouse {
    /// Asks; the answer is given to `out` piece by piece until it returns false.
    ///
    /// # Errors
    /// The store is away, or refuses the question.
    pub async fn stream(
        &self,
        question: &Question,
        mut out: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), SinkError> {
        let mut query = self.client().query_raw(&question.sql);
        query = query.with_setting("query_id", &question.id);
        for (name, value) in &question.parameters {
            query = query.with_setting(format!("param_{name}"), escaped(value));
        }
        let answer = async {
            let mut answer = query.fetch_bytes(&question.format)?;
            while let Some(bytes) = answer.next().await? {
                if !out(&bytes) {
                    break;
                }
            }
            Ok(())
        };
        answer.await.map_err(|error| self.error("answer", &error))
    }

    /// Runs a statement for `what`; however long it takes.
    ///
    /// # Errors
    /// The store is away, or refuses.
    pub async fn execute(&self, what: &str, sql: &str) -> Result<(), SinkError> {
        let done = self.client().query_raw(sql).execute().await;
        done.map_err(|error| self.error(what, &error))
    }

    /// The answer to a small question, in lines of fields.
    ///
    /// # Errors
    /// As [`ClickHouse::stream`].
    pub async fn table(&self, sql: impl Into<String>) -> Result<Vec<Vec<String>>, SinkError> {
        let mut text = Vec::new();
        let question = Question::new(sql, "TabSeparatedRaw");
        self.stream(&question, |bytes| {
            text.extend_from_slice(bytes);
            true
        })
        .await?;
        let text = String::from_utf8_lossy(&text);
        Ok(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    }

    /// How far a running question is; none when it is not running.
    ///
    /// # Errors
    /// As [`ClickHouse::stream`].
    pub async fn reading(&self, id: &str) -> Result<Option<Reading>, SinkError> {
        let sql = format!(
            "SELECT read_rows, read_bytes, total_rows_approx FROM system.processes \
             WHERE query_id = '{}'",
            quoted(id)
        );
        let rows = self.table(sql).await?;
        let number = |row: &[String], at: usize| row.get(at).and_then(|text| text.parse().ok());
        Ok(rows.first().map(|row| Reading {
            rows: number(row, 0).unwrap_or_default(),
            bytes: number(row, 1).unwrap_or_default(),
            total_rows: number(row, 2).unwrap_or_default(),
        }))
    }

    /// Ends a running question.
    ///
    /// # Errors
    /// The store is away, or refuses.
    pub async fn cancel(&self, id: &str) -> Result<(), SinkError> {
        let sql = format!("KILL QUERY WHERE query_id = '{}' ASYNC", quoted(id));
        self.execute("end a query", &sql).await
    }
}

/// For a string in SQL.
pub fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_as_fields_and_texts_as_strings() {
        assert_eq!(escaped("a\\b\tc\nd'"), "a\\\\b\\tc\\nd'");
        assert_eq!(quoted("a'b\\"), "a\\'b\\\\");
    }
}
