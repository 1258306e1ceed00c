//! A country: two letters, or nothing.

/// An ISO 3166-1 alpha-2 code; empty for unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Country([u8; 2]);

impl Country {
    /// The country of a code; unknown for anything but two ASCII letters.
    pub fn new(code: &str) -> Self {
        match code.as_bytes() {
            [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
                Self([a.to_ascii_uppercase(), b.to_ascii_uppercase()])
            }
            _ => Self::default(),
        }
    }

    /// The code, or an empty text.
    pub fn as_str(&self) -> &str {
        if self.0 == [0; 2] { "" } else { str::from_utf8(&self.0).unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_letters_are_a_country() {
        for (code, country) in [("DE", "DE"), ("de", "DE"), ("", ""), ("D", ""), ("DEU", "")] {
            assert_eq!(Country::new(code).as_str(), country);
        }
        assert_eq!(Country::new("é").as_str(), "", "two octets, one letter");
        assert_eq!(Country::new("1A").as_str(), "");
    }
}
