//! A request as a script sees it.

use std::borrow::Cow;

use url::form_urlencoded;

/// A request for the store, before anything of it was passed on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Its number among all of this proxy, from 0.
    pub number: u64,
    /// The statement; of a long one in the body the beginning.
    pub statement: String,
    /// The query id, if it has one.
    pub query_id: Option<String>,
    /// The deduplication token, if it has one.
    pub token: Option<String>,
}

impl Request {
    /// By its head and the beginning of its body.
    pub(super) fn new(number: u64, head: &str, body: &[u8]) -> Self {
        let target = head.split(' ').nth(1).unwrap_or_default();
        let (_, parameters) = target.split_once('?').unwrap_or_default();
        let mut request = Self { number, ..Self::default() };
        for (name, value) in form_urlencoded::parse(parameters.as_bytes()) {
            match name.as_ref() {
                "query" => request.statement = value.into_owned(),
                "query_id" => request.query_id = Some(value.into_owned()),
                "insert_deduplication_token" => request.token = Some(value.into_owned()),
                _ => {}
            }
        }
        if !request.is_insert() {
            let text: Cow<'_, str> = String::from_utf8_lossy(body);
            request.statement.push_str(&text);
        }
        request
    }

    /// True when rows follow.
    pub fn is_insert(&self) -> bool {
        self.words().next().is_some_and(|word| word.eq_ignore_ascii_case("INSERT"))
    }

    /// True for rows for this table, of any database.
    pub fn inserts_into(&self, table: &str) -> bool {
        let mut words = self.words();
        let is = |word: Option<&str>, keyword: &str| {
            word.is_some_and(|word| word.eq_ignore_ascii_case(keyword))
        };
        if !is(words.next(), "INSERT") || !is(words.next(), "INTO") {
            return false;
        }
        let name = words.next().filter(|word| !word.eq_ignore_ascii_case("TABLE"));
        let name = name.or_else(|| words.next()).unwrap_or_default();
        name.rsplit('.').next().is_some_and(|name| name.trim_matches(['`', '"']) == table)
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        self.statement.split([' ', '\n', '\t', '(']).filter(|word| !word.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insert_is_known_by_its_table_and_token() {
        let head = "POST /?database=flow&query=INSERT+INTO+%60flow%60.flows%28a%2Cb%29+FORMAT+\
                    Native&insert_deduplication_token=t-1&query_id=q HTTP/1.1\r\nHost: x\r\n";
        let request = Request::new(7, head, b"rows");
        assert!(request.is_insert() && request.inserts_into("flows"), "{request:?}");
        assert!(!request.inserts_into("flows_1m") && !request.inserts_into("ledger"));
        assert_eq!(request.token.as_deref(), Some("t-1"));
        assert_eq!(request.query_id.as_deref(), Some("q"));
        let asked = Request::new(8, "POST /?x=1 HTTP/1.1", b"SELECT 1");
        assert_eq!(asked.statement, "SELECT 1");
        assert!(!asked.is_insert());
    }
}
