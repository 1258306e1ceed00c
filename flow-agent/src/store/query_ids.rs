//! The ids that clients give their queries. The engine gives statements ids of
//! its own; the client's travels as the setting `log_comment`. Enters the text
//! of a statement, leaves one in which `query_id` means the client's, in `KILL`
//! and in what is read from `system.processes`.

use super::lexer::{Lexer, Token};

const CLIENTS_ID: &[u8] = b"Settings['log_comment']";

const PROCESSES: &str = "(SELECT * REPLACE (if(empty(Settings['log_comment']), query_id, \
     Settings['log_comment']) AS query_id) FROM system.processes)";

/// `KILL QUERY WHERE query_id = ...` means the client's id.
pub fn in_kill(text: &[u8], rest: &[Token], end: usize) -> Vec<u8> {
    let mut sql = Vec::with_capacity(text.len() + 32);
    let mut copied = 0;
    for token in rest.iter().filter(|t| t.end <= end && t.is_word(text, "query_id")) {
        sql.extend_from_slice(&text[copied..token.start]);
        sql.extend_from_slice(CLIENTS_ID);
        copied = token.end;
    }
    sql.extend_from_slice(&text[copied..end]);
    sql
}

/// Who reads `system.processes` sees the clients' ids.
pub fn in_select(text: &[u8]) -> Vec<u8> {
    let tokens: Vec<_> = Lexer::new(text).collect();
    let mut sql = Vec::with_capacity(text.len());
    let mut copied = 0;
    for words in tokens.windows(4) {
        let [from, database, dot, table] = words else { continue };
        if (from.is_word(text, "FROM") || from.is_word(text, "JOIN"))
            && database.is_word(text, "system")
            && &text[dot.start..dot.end] == b"."
            && table.is_word(text, "processes")
        {
            sql.extend_from_slice(&text[copied..database.start]);
            sql.extend_from_slice(PROCESSES.as_bytes());
            copied = table.end;
        }
    }
    sql.extend_from_slice(&text[copied..]);
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_table_of_running_queries_is_read_with_other_ids() {
        let seen = |sql: &str| String::from_utf8(in_select(sql.as_bytes())).unwrap();
        let twice = "SELECT 1 FROM system.processes AS p JOIN SYSTEM . Processes q USING query_id";
        assert_eq!(
            seen(twice),
            format!("SELECT 1 FROM {PROCESSES} AS p JOIN {PROCESSES} q USING query_id")
        );
        for sql in [
            "SELECT 'FROM system.processes'",
            "SELECT * FROM processes",
            "SELECT system.processes",
            "SELECT 1 FROM system.parts -- FROM system.processes",
        ] {
            assert_eq!(seen(sql), sql);
        }
    }
}
