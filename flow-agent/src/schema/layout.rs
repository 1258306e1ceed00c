//! What a table or view is made of: enters a CREATE statement as the engine formats it, leaves its
//! parts by name, so that two of them can be compared.

use std::collections::BTreeMap;

/// The parts of a CREATE statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Columns in order: name, and definition without its comment.
    pub columns: Vec<(String, Column)>,
    /// `engine`, `partition by`, `order by`, `ttl`, `select`, and what else there is.
    pub clauses: BTreeMap<&'static str, String>,
    /// Settings of the table.
    pub settings: BTreeMap<String, String>,
}

/// A column's definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// Its type.
    pub kind: String,
    /// `DEFAULT`, `ALIAS` and so on, with the expression.
    pub default: String,
    /// Its codecs.
    pub codec: String,
}

/// Where a clause begins, and what it is called. Longer ones first.
const CLAUSES: [(&[&str], &str); 9] = [
    (&["ENGINE", "="], "engine"),
    (&["PARTITION", "BY"], "partition by"),
    (&["PRIMARY", "KEY"], "primary key"),
    (&["ORDER", "BY"], "order by"),
    (&["SAMPLE", "BY"], "sample by"),
    (&["TTL"], "ttl"),
    (&["SETTINGS"], "settings"),
    (&["TO"], "target"),
    (&["AS"], "select"),
];

impl Layout {
    /// Reads a statement that the engine has formatted on one line.
    pub fn parse(statement: &str) -> Self {
        let tokens = tokens(statement);
        let mut layout = Self::default();
        let mut clause = "";
        let mut at = 0;
        while at < tokens.len() {
            let begins = CLAUSES.iter().find(|(words, _)| tokens[at..].starts_with(words));
            match begins {
                // `AS database.table` copies columns.
                Some((_, "select")) if tokens.get(at + 1) != Some(&"SELECT") => at += 2,
                // What a view selects goes on to the end.
                Some((_, "select")) => {
                    layout.clauses.insert("select", tokens[at + 1..].join(" "));
                    break;
                }
                Some((words, name)) => {
                    clause = name;
                    at += words.len();
                }
                None => {
                    if let (true, Some(list)) = (layout.columns.is_empty(), inner(tokens[at]))
                        && clause != "engine"
                        && matches!(clause, "" | "target")
                    {
                        layout.columns = split(list).iter().map(|text| column(text)).collect();
                    } else if !clause.is_empty() {
                        let text = layout.clauses.entry(clause).or_default();
                        *text = join(text, tokens[at]);
                    }
                    at += 1;
                }
            }
        }
        if let Some(engine) = layout.clauses.get_mut("engine") {
            *engine = without_path(engine);
        }
        let settings = layout.clauses.remove("settings").unwrap_or_default();
        layout.settings = split(&settings)
            .iter()
            .filter_map(|setting| setting.split_once('='))
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .collect();
        layout
    }
}

/// A replicated engine without its path and replica, which the server fills in.
fn without_path(engine: &str) -> String {
    let Some((name, arguments)) = engine.split_once('(') else { return engine.to_owned() };
    let arguments = arguments.strip_suffix(')').unwrap_or(arguments);
    if !name.starts_with("Replicated") || !arguments.starts_with('\'') {
        return engine.to_owned();
    }
    let rest = split(arguments).split_off(2).join(", ");
    if rest.is_empty() { name.to_owned() } else { format!("{name}({rest})") }
}

/// A column of a list: `name Type DEFAULT x COMMENT 'y' CODEC(z)`.
fn column(text: &str) -> (String, Column) {
    let tokens = tokens(text);
    let name = tokens.first().map(|name| name.trim_matches('`')).unwrap_or_default();
    if matches!(name, "INDEX" | "PROJECTION" | "CONSTRAINT") && tokens.len() > 2 {
        let kind = tokens[2..].iter().fold(String::new(), |text, token| join(&text, token));
        return (format!("{name} {}", tokens[1]), Column { kind, ..Column::default() });
    }
    let mut column = Column::default();
    let mut rest = tokens.iter().skip(1).copied();
    let mut field = "type";
    while let Some(token) = rest.next() {
        match token {
            "DEFAULT" | "ALIAS" | "MATERIALIZED" | "EPHEMERAL" => field = "default",
            "COMMENT" => {
                rest.next();
                field = "";
                continue;
            }
            "CODEC" => field = "codec",
            _ => {}
        }
        let text = match field {
            "type" => &mut column.kind,
            "default" => &mut column.default,
            "codec" => &mut column.codec,
            _ => continue,
        };
        *text = join(text, token);
    }
    (name.to_owned(), column)
}

fn join(text: &str, token: &str) -> String {
    let glued = text.is_empty() || token.starts_with('(') || token.starts_with(',');
    let space = if glued { "" } else { " " };
    format!("{text}{space}{token}")
}

/// What is in the parentheses that a token is.
fn inner(token: &str) -> Option<&str> {
    token.strip_prefix('(')?.strip_suffix(')')
}

/// Words and parenthesised groups; quoted text is never divided.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut start = None;
    each_outside(text, |at, character, depth| {
        let ends = character.is_whitespace() && depth == 0;
        // A group is a token of its own: `CODEC(x)` is two.
        if (ends || (character == '(' && depth == 0))
            && let Some(start) = start.take()
        {
            tokens.push(&text[start..at]);
        }
        if !ends && start.is_none() {
            start = Some(at);
        }
        if character == ')'
            && depth == 1
            && let Some(start) = start.take()
        {
            tokens.push(&text[start..=at]);
        }
    });
    if let Some(start) = start {
        tokens.push(&text[start..]);
    }
    tokens
}

/// The parts between commas that are in no parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    each_outside(text, |at, character, depth| {
        if character == ',' && depth == 0 {
            parts.push(text[start..at].trim());
            start = at + 1;
        }
    });
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

/// Calls `see` with each character outside quotes, and how many parentheses are open before it.
fn each_outside(text: &str, mut see: impl FnMut(usize, char, usize)) {
    let mut depth = 0_usize;
    let mut quote = None;
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        if let Some(open) = quote {
            if escaped {
                escaped = false;
            } else if character == '\\' {
                escaped = true;
            } else if character == open {
                quote = None;
            }
            continue;
        }
        see(at, character, depth);
        match character {
            '\'' | '`' | '"' => quote = Some(character),
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_comes_apart_into_columns_clauses_and_settings() {
        let layout = Layout::parse(
            "CREATE TABLE flow.t (`a` UInt64 DEFAULT f(1, 2) COMMENT 'x, (y' CODEC(T64, ZSTD(1)), \
             `b` Enum8('p q' = 1, 'r' = 2)) ENGINE = SummingMergeTree((a, b)) PARTITION BY a \
             ORDER BY (a, b) TTL a + toIntervalDay(2) SETTINGS s = 1, u = '2'",
        );
        let names: Vec<_> = layout.columns.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        let column = &layout.columns[0].1;
        assert_eq!(
            (column.kind.as_str(), column.default.as_str(), column.codec.as_str()),
            ("UInt64", "DEFAULT f(1, 2)", "CODEC(T64, ZSTD(1))")
        );
        assert_eq!(layout.columns[1].1.kind, "Enum8('p q' = 1, 'r' = 2)");
        assert_eq!(layout.clauses["engine"], "SummingMergeTree((a, b))");
        assert_eq!(layout.clauses["partition by"], "a");
        assert_eq!(layout.clauses["order by"], "(a, b)");
        assert_eq!(layout.clauses["ttl"], "a + toIntervalDay(2)");
        assert_eq!(layout.settings["s"], "1");
        assert_eq!(layout.settings["u"], "'2'");
    }

    #[test]
    fn a_view_keeps_its_target_and_its_whole_question() {
        let layout = Layout::parse(
            "CREATE MATERIALIZED VIEW flow.v TO flow.t (`a` UInt64) AS SELECT a AS b FROM flow.s ORDER BY a",
        );
        assert_eq!(layout.clauses["target"], "flow.t");
        assert_eq!(layout.clauses["select"], "SELECT a AS b FROM flow.s ORDER BY a");
        assert_eq!(layout.columns.len(), 1);
    }
}
