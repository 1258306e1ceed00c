//! ClickHouse's tokens, as far as they matter here: enters SQL text, leaves
//! words, brackets and quoted pieces; comments and blanks are skipped. Never
//! reads past the token it is asked for: binary data may follow.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A keyword, bare identifier or number.
    Word,
    /// A string, heredoc or quoted identifier.
    Quoted,
    /// An opening bracket.
    Open,
    /// A closing bracket.
    Close,
    /// `;`
    Semicolon,
    /// Any other character.
    Other,
}

/// A token and its place in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Its first octet.
    pub start: usize,
    /// One past its last octet.
    pub end: usize,
}

impl Token {
    /// Whether it is this keyword, in any case.
    pub fn is_word(&self, text: &[u8], word: &str) -> bool {
        self.kind == Kind::Word && text[self.start..self.end].eq_ignore_ascii_case(word.as_bytes())
    }

    /// Its text; empty when that is not UTF-8.
    pub fn str<'t>(&self, text: &'t [u8]) -> &'t str {
        std::str::from_utf8(&text[self.start..self.end]).unwrap_or_default()
    }
}

/// Yields the tokens of a text.
#[derive(Debug, Clone)]
pub struct Lexer<'t> {
    text: &'t [u8],
    at: usize,
    /// Where a comment begins that has the beginning of another one in it.
    nested: Option<usize>,
}

impl<'t> Lexer<'t> {
    /// Starts at the beginning of a text.
    pub fn new(text: &'t [u8]) -> Self {
        Self { text, at: 0, nested: None }
    }

    /// Where, in what was read, a comment begins that has the beginning of another one in it.
    pub fn nested_comment(&self) -> Option<usize> {
        self.nested
    }

    fn rest(&self) -> &'t [u8] {
        &self.text[self.at..]
    }

    /// Moves to one past `end`, or to the end of the text.
    fn skip_past(&mut self, from: usize, end: &[u8]) {
        let start = (self.at + from).min(self.text.len());
        let found = self.text[start..].windows(end.len()).position(|window| window == end);
        self.at = found.map_or(self.text.len(), |offset| start + offset + end.len());
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            match rest {
                [b, ..] if b.is_ascii_whitespace() || *b == 0x0b => self.at += 1,
                [b'-', b'-', ..] | [b'#', b' ' | b'!', ..] => self.skip_past(2, b"\n"),
                [b'/', b'*', ..] => {
                    let start = self.at;
                    self.skip_past(2, b"*/");
                    let inside = &self.text[start + 2..self.at];
                    if inside.windows(2).any(|window| window == b"/*") {
                        self.nested.get_or_insert(start);
                    }
                }
                _ => return,
            }
        }
    }

    fn skip_quoted(&mut self, quote: u8) {
        self.at += 1;
        while let Some(&byte) = self.text.get(self.at) {
            self.at += 1;
            if byte == b'\\' {
                self.at = (self.at + 1).min(self.text.len());
            } else if byte == quote {
                if self.text.get(self.at) == Some(&quote) {
                    self.at += 1;
                } else {
                    return;
                }
            }
        }
    }

    /// The `$tag$` at this place, if one begins here.
    fn heredoc_tag(&self) -> Option<&'t [u8]> {
        let rest = self.rest();
        let inner = rest[1..].iter().take_while(|b| is_word_byte(**b)).count();
        (rest.get(1 + inner) == Some(&b'$')).then(|| &rest[..inner + 2])
    }
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.skip_blanks();
        let start = self.at;
        let kind = match *self.rest().first()? {
            quote @ (b'\'' | b'"' | b'`') => {
                self.skip_quoted(quote);
                Kind::Quoted
            }
            b'$' if self.heredoc_tag().is_some() => {
                let tag = self.heredoc_tag().unwrap_or_default();
                self.skip_past(tag.len(), tag);
                Kind::Quoted
            }
            byte if is_word_byte(byte) => {
                self.at += self.rest().iter().take_while(|b| is_word_byte(**b)).count();
                Kind::Word
            }
            byte => {
                self.at += 1;
                match byte {
                    b'(' | b'[' | b'{' => Kind::Open,
                    b')' | b']' | b'}' => Kind::Close,
                    b';' => Kind::Semicolon,
                    _ => Kind::Other,
                }
            }
        };
        Some(Token { kind, start, end: self.at })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<&str> {
        Lexer::new(text.as_bytes()).map(|t| &text[t.start..t.end]).collect()
    }

    #[test]
    fn quotes_comments_and_heredocs_are_one_piece() {
        assert_eq!(
            words("a 'it''s; \\' x' /* ; */ `b;` -- ;\n $t$ ; $t$ ; c"),
            ["a", "'it''s; \\' x'", "`b;`", "$t$ ; $t$", ";", "c"]
        );
        assert_eq!(words("'open ; "), ["'open ; "]);
    }

    proptest! {
        #[test]
        fn any_bytes_end(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut last = 0;
            for token in Lexer::new(&text) {
                prop_assert!(token.start >= last && token.end > token.start);
                prop_assert!(token.end <= text.len());
                last = token.end;
            }
        }
    }
}
