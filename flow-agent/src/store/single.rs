//! What only the engine can tell: enters a statement, leaves a refusal where it may be several, or
//! write a file, if the engine's tokens are other ones than those of our lexer.
//!
//! The engine runs every statement that a text has, one after the other, so `;` must be found
//! where the engine finds it. Where a text goes beyond what both surely read alike (`$`, octets
//! that are not ASCII, comments in comments, prefixed strings, all outside of quotes), what
//! follows may mean anything: there, no `;` is let through but at the end, whatever it seems to
//! be in.

use super::failure::{Failure, code};
use super::lexer::{Kind, Lexer};

/// What follows the first place of doubt; none when there is no doubt.
fn doubtful(text: &[u8]) -> Option<&[u8]> {
    let mut lexer = Lexer::new(text);
    let mut end = 0;
    let mut first = None;
    for token in lexer.by_ref() {
        let piece = &text[token.start..token.end];
        let strange = |octet: &u8| !octet.is_ascii() || matches!(octet, b'$' | 0);
        let doubt = match token.kind {
            // A heredoc, which the engine finds at other places; `x'\'` is whole for it.
            Kind::Quoted => {
                let prefixed = token.start == end && end > 0 && is_word(text[end - 1]);
                (piece[0] == b'$' || prefixed).then_some(token.start)
            }
            _ => piece.iter().position(strange).map(|at| token.start + at),
        };
        end = token.end;
        if doubt.is_some() {
            first = doubt;
            break;
        }
    }
    // A comment in a comment, before that.
    let nested = lexer.nested_comment();
    let at = [first, nested].into_iter().flatten().min()?;
    Some(&text[at..])
}

fn is_word(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || octet == b'_'
}

fn has(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

/// Refuses what may be more than one statement, or touch files of the server.
///
/// # Errors
/// What is to be written otherwise.
pub fn check(text: &[u8]) -> Result<(), Failure> {
    let Some(rest) = doubtful(text) else { return Ok(()) };
    let is_end = |octet: &u8| octet.is_ascii_whitespace() || *octet == b';';
    let length = rest.iter().rposition(|octet| !is_end(octet)).map_or(0, |last| last + 1);
    let rest = &rest[..length];
    let problem = if rest.contains(&b';') {
        "Multi-statements are not allowed, and whether this is one cannot be told: a semicolon \
         follows a $, a character beyond ASCII, a comment in a comment or a prefixed string \
         outside of quotes; give texts as parameters, {name:String}"
    } else if has(rest, b"OUTFILE") || has(rest, b"INFILE") {
        "INTO OUTFILE and FROM INFILE are not allowed, and whether this is one cannot be told \
         behind a $, a character beyond ASCII or a comment in a comment"
    } else {
        return Ok(());
    };
    let message = format!("Syntax error ({problem})");
    Err(Failure::new(code::SYNTAX_ERROR, "SYNTAX_ERROR", message))
}

/// Whether it may insert although no such word was found in its tokens.
pub fn may_insert(text: &[u8]) -> bool {
    doubtful(text).is_some_and(|rest| has(rest, b"INSERT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_reads_as_several_statements_is_refused() {
        for text in [
            // A name with dollars, not a heredoc.
            "SELECT 1 AS a$b$; DROP TABLE t; SELECT 2 AS c$b$",
            // A heredoc that has no end.
            "SELECT 1 AS $a$; DROP TABLE t",
            "SELECT 1$a$'$a$; DROP TABLE t; SELECT ''",
            "SELECT 1\u{a0}$a$'$a$; DROP TABLE t; SELECT ''",
            "SELECT \u{2018}'\u{2019}; DROP TABLE t; SELECT \u{2018}'\u{2019}",
            "SELECT 1 /* /* */ ' */; DROP TABLE t; SELECT ' '",
            "SELECT x'\\'; DROP TABLE t; SELECT '",
            "SELECT 1 AS a$b$ INTO OUTFILE '/tmp/x' SETTINGS c$b$ = 1",
        ] {
            let failure = check(text.as_bytes()).expect_err(text);
            assert_eq!(failure.code, code::SYNTAX_ERROR, "{text}");
        }
        assert!(may_insert(b"WITH 1 AS a$b$ INSERT INTO t SELECT 2 AS c$b$"));
    }

    #[test]
    fn what_is_one_statement_is_let_through() {
        for text in [
            "SELECT ';', \";\", `;` /* ; */ -- ;\n",
            "SELECT 'ä;$', 1;",
            "SELECT $a$ text $a$;",
            "SELECT 1 AS größe ; ; ",
            "WITH 1 AS x SELECT x /* INSERT */",
            "SELECT arrayMap(x -> concat(x, ';'), ['a'])",
        ] {
            assert!(check(text.as_bytes()).is_ok(), "{text}");
            assert!(!may_insert(text.as_bytes()), "{text}");
        }
    }
}
