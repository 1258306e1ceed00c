//! What a statement is: enters SQL text, leaves how to run it.
//!
//! The engine parses SQL; this only finds where an insert's data begins, which
//! output format is asked for, and what a server must not let a client do
//! (several statements at once, files of the server). Where this reading is
//! unsure, the engine gets the text unchanged and judges.

use super::failure::{Failure, code};
use super::lexer::{Kind, Lexer, Token};
use super::{query_ids, single};

/// How a statement is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// An insert whose data follows the text or is part of it.
    Insert {
        /// The statement without FORMAT or VALUES.
        head: Vec<u8>,
        /// The format of the data.
        format: String,
        /// Where the data begins in the text.
        data_at: usize,
    },
    /// A select: answers with rows of any number and changes nothing.
    Output {
        /// The text before the FORMAT clause.
        before: Vec<u8>,
        /// The format, when the text has one.
        format: Option<String>,
        /// The text after the FORMAT clause (SETTINGS).
        after: Vec<u8>,
    },
    /// Anything else: run as it is.
    Plain {
        /// The text.
        sql: Vec<u8>,
        /// The format, when the text has one.
        format: Option<String>,
        /// What it may change.
        changes: Changes,
    },
}

/// What a statement may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changes {
    /// Nothing: it answers with a few rows.
    Nothing,
    /// The session.
    Session,
    /// Data.
    Data,
}

/// Reads a statement.
pub fn parse(text: &[u8]) -> Result<Statement, Failure> {
    let mut lexer = Lexer::new(text);
    let Some(first) = lexer.next() else {
        return Err(Failure::new(code::SYNTAX_ERROR, "SYNTAX_ERROR", "Empty query"));
    };
    if first.kind == Kind::Semicolon {
        return Err(Failure::new(
            code::SYNTAX_ERROR,
            "SYNTAX_ERROR",
            "Syntax error: nothing stands before the first semicolon",
        ));
    }
    if first.is_word(text, "INSERT") {
        let statement = parse_insert(text, lexer)?;
        if let Statement::Insert { head, .. } = &statement {
            single::check(head)?;
        }
        return Ok(statement);
    }
    parse_other(text, &first, &lexer.collect::<Vec<_>>())
}

fn parse_insert(text: &[u8], lexer: Lexer<'_>) -> Result<Statement, Failure> {
    let mut tokens = lexer.peekable();
    let mut depth = 0_usize;
    while let Some(token) = tokens.next() {
        match token.kind {
            Kind::Open => {
                let selects = |t: &Token| t.is_word(text, "SELECT") || t.is_word(text, "WITH");
                if depth == 0 && tokens.peek().is_some_and(selects) {
                    return plain_insert(text);
                }
                depth += 1;
            }
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Semicolon => {
                return Ok(insert(text, token.start, "Values", text.len()));
            }
            Kind::Word if depth == 0 => {
                if token.is_word(text, "SELECT") || token.is_word(text, "WITH") {
                    return plain_insert(text);
                }
                if token.is_word(text, "VALUES") {
                    return Ok(insert(text, token.start, "Values", token.end));
                }
                let next_is = |tokens: &mut std::iter::Peekable<Lexer<'_>>, word| {
                    tokens.peek().is_some_and(|t| t.is_word(text, word))
                };
                if token.is_word(text, "FROM") && next_is(&mut tokens, "INFILE") {
                    return Err(Failure::new(
                        code::UNKNOWN_TYPE_OF_QUERY,
                        "UNKNOWN_TYPE_OF_QUERY",
                        "FROM INFILE reads a file of the client; send its content as the body instead",
                    ));
                }
                if token.is_word(text, "FORMAT")
                    && let Some(name) = tokens.peek().filter(|t| t.kind == Kind::Word)
                {
                    return Ok(insert(text, token.start, name.str(text), data_start(text, name)));
                }
            }
            Kind::Word | Kind::Quoted | Kind::Other => {}
        }
    }
    Ok(insert(text, text.len(), "Values", text.len()))
}

fn insert(text: &[u8], head_end: usize, format: &str, data_at: usize) -> Statement {
    Statement::Insert { head: text[..head_end].to_vec(), format: format.to_owned(), data_at }
}

/// Blanks and one line end separate the format's name from the data.
fn data_start(text: &[u8], name: &Token) -> usize {
    let rest = &text[name.end..];
    let blanks = rest.iter().take_while(|b| matches!(b, b' ' | b'\t' | 0x0c)).count();
    let rest = &rest[blanks..];
    let line_end = [&b"\r\n"[..], b"\n"].into_iter().find(|end| rest.starts_with(end));
    name.end + blanks + line_end.map_or(0, <[u8]>::len)
}

fn plain_insert(text: &[u8]) -> Result<Statement, Failure> {
    let mut tokens: Vec<_> = Lexer::new(text).collect();
    let first = tokens.remove(0);
    parse_other(text, &first, &tokens)
}

fn parse_other(text: &[u8], first: &Token, rest: &[Token]) -> Result<Statement, Failure> {
    single::check(text)?;
    let mut depth = usize::from(first.kind == Kind::Open);
    let mut end = text.len();
    let mut clause: Option<(usize, usize, String)> = None;
    let mut inserts = first.is_word(text, "INSERT");
    for (at, token) in rest.iter().enumerate() {
        let next = rest.get(at + 1);
        match token.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Semicolon => {
                if rest[at..].iter().any(|t| t.kind != Kind::Semicolon) {
                    return Err(Failure::new(
                        code::SYNTAX_ERROR,
                        "SYNTAX_ERROR",
                        "Syntax error (Multi-statements are not allowed): send one statement a request",
                    ));
                }
                end = token.start;
                break;
            }
            Kind::Word if depth == 0 => {
                inserts |= token.is_word(text, "INSERT") && first.is_word(text, "WITH");
                if token.is_word(text, "INTO") && next.is_some_and(|t| t.is_word(text, "OUTFILE")) {
                    return Err(Failure::new(
                        code::INTO_OUTFILE_NOT_ALLOWED,
                        "INTO_OUTFILE_NOT_ALLOWED",
                        "INTO OUTFILE is not allowed",
                    ));
                }
                if token.is_word(text, "FORMAT")
                    && let Some(name) = next.filter(|t| t.kind == Kind::Word)
                    && rest
                        .get(at + 2)
                        .is_none_or(|t| t.kind == Kind::Semicolon || t.is_word(text, "SETTINGS"))
                {
                    clause = Some((token.start, name.end, name.str(text).to_owned()));
                }
            }
            Kind::Word | Kind::Quoted | Kind::Other => {}
        }
    }
    let first_is = |words: &[&str]| words.iter().any(|word| first.is_word(text, word));
    inserts |= single::may_insert(text);
    let output = first.kind == Kind::Open || first_is(&["SELECT", "WITH", "FROM"]);
    if output && !inserts {
        return Ok(match clause {
            Some((start, stop, format)) => Statement::Output {
                before: query_ids::in_select(&text[..start]),
                format: Some(format),
                after: text[stop..end].to_vec(),
            },
            None => Statement::Output {
                before: query_ids::in_select(&text[..end]),
                format: None,
                after: Vec::new(),
            },
        });
    }
    let sql = if first.is_word(text, "KILL") {
        query_ids::in_kill(text, rest, end)
    } else {
        text[..end].to_vec()
    };
    Ok(Statement::Plain {
        sql,
        format: clause.map(|(_, _, format)| format),
        // The engine answers most of these by a select of its own, or reads an
        // output clause as part of what is explained: they run as they are.
        changes: if first_is(&["SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS"]) {
            Changes::Nothing
        } else if first_is(&["SET", "USE"]) {
            Changes::Session
        } else {
            Changes::Data
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert_of(text: &str) -> (String, String, String) {
        match parse(text.as_bytes()).unwrap() {
            Statement::Insert { head, format, data_at } => {
                (String::from_utf8(head).unwrap(), format, text[data_at..].to_owned())
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    fn output_of(text: &str) -> (String, Option<String>, String) {
        match parse(text.as_bytes()).unwrap() {
            Statement::Output { before, format, after } => {
                (String::from_utf8(before).unwrap(), format, String::from_utf8(after).unwrap())
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn insert_data_begins_after_the_format() {
        let (head, format, data) = insert_of("INSERT INTO t (a, `b;`) FORMAT CSV\n1,\"x;y\"\n");
        assert_eq!(head, "INSERT INTO t (a, `b;`) ");
        assert_eq!((format.as_str(), data.as_str()), ("CSV", "1,\"x;y\"\n"));
        let (_, format, data) = insert_of("insert into t values (1, 'a;b')");
        assert_eq!((format.as_str(), data.as_str()), ("Values", " (1, 'a;b')"));
        let (_, format, data) = insert_of("INSERT INTO t FORMAT RowBinary\n\n");
        assert_eq!((format.as_str(), data.as_str()), ("RowBinary", "\n"));
    }

    #[test]
    fn insert_select_is_plain() {
        for sql in [
            "INSERT INTO t SELECT 1",
            "INSERT INTO t (a) (SELECT 1)",
            "WITH 1 AS x INSERT INTO t SELECT x",
        ] {
            assert!(matches!(parse(sql.as_bytes()).unwrap(), Statement::Plain { .. }), "{sql}");
        }
    }

    #[test]
    fn the_format_clause_is_found_and_nothing_else() {
        assert_eq!(
            output_of("SELECT 1 -- FORMAT x\nFORMAT JSON SETTINGS a=1;"),
            ("SELECT 1 -- FORMAT x\n".into(), Some("JSON".into()), " SETTINGS a=1".into())
        );
        for sql in [
            "SELECT format('{}', 1)",
            "SELECT 'x FORMAT CSV'",
            "SELECT format FROM t",
            "SELECT (SELECT 1)",
        ] {
            assert_eq!(output_of(sql), (sql.into(), None, String::new()));
        }
        assert_eq!(output_of("SELECT 1;; "), ("SELECT 1".into(), None, String::new()));
    }

    #[test]
    fn what_a_server_refuses() {
        for (sql, code) in [
            ("", 62),
            (" -- nothing\n", 62),
            ("SELECT 1; SELECT 2", 62),
            (";DROP TABLE t", 62),
            ("SELECT 1 AS a$b$; DROP TABLE t; SELECT 2 AS c$b$", 62),
            ("INSERT INTO t SETTINGS a$b$; DROP TABLE t; SELECT c$b$ VALUES (1)", 62),
            ("SELECT 1 INTO OUTFILE '/tmp/x'", 358),
            ("INSERT INTO t FROM INFILE '/etc/passwd' FORMAT CSV", 78),
        ] {
            assert_eq!(parse(sql.as_bytes()).unwrap_err().code, code, "{sql}");
        }
    }

    #[test]
    fn kill_means_the_clients_id() {
        let Statement::Plain { sql, .. } =
            parse(b"KILL QUERY WHERE query_id = 'query_id' SYNC;").unwrap()
        else {
            panic!("not plain");
        };
        assert_eq!(sql, b"KILL QUERY WHERE Settings['log_comment'] = 'query_id' SYNC");
    }
}
