//! What a URL asks for: its text enters, names and values leave, each name once.

use std::ops::RangeInclusive;

use super::respond::{Refusal, bad};

/// The part of a URL behind the question mark.
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Takes it apart.
    ///
    /// # Errors
    /// A name is there twice.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let pairs: Vec<_> = url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        let mut names: Vec<_> = pairs.iter().map(|(name, _)| name).collect();
        names.sort();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(bad(format!("{} is given twice", pair[0]))),
            None => Ok(Self(pairs)),
        }
    }

    /// # Errors
    /// There are others than these.
    pub fn only(&self, known: &[&str]) -> Result<(), Refusal> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) if known.is_empty() => {
                Err(bad(format!("{name:?} is no parameter here; there are none")))
            }
            Some((name, _)) => {
                Err(bad(format!("{name:?} is no parameter here; there are {}", known.join(", "))))
            }
        }
    }

    /// A number within these limits.
    ///
    /// # Errors
    /// It is none, or beyond them.
    pub fn number(
        &self,
        name: &str,
        default: u64,
        allowed: RangeInclusive<u64>,
    ) -> Result<u64, Refusal> {
        let Some(text) = self.get(name) else { return Ok(default) };
        text.parse().ok().filter(|number| allowed.contains(number)).ok_or_else(|| {
            let (least, most) = allowed.into_inner();
            bad(format!("{name} is {text:?}; it must be {least} to {most}"))
        })
    }

    /// The value of a name.
    pub fn get(&self, wanted: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    /// A value that is true or false.
    ///
    /// # Errors
    /// It is something else.
    pub fn switch(&self, name: &str, default: bool) -> Result<bool, Refusal> {
        match self.get(name) {
            None => Ok(default),
            Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(bad(format!("{name} is {other:?}; it must be true or false"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_known_and_given_once() {
        let query = |text| Query::parse(text).map_err(|refusal| refusal.problem);
        let good = query("key=tcp%2C1&store=false").expect("valid");
        assert_eq!(good.get("key"), Some("tcp,1"));
        assert!(good.only(&["key", "store"]).is_ok() && good.only(&["key"]).is_err());
        assert!(good.switch("store", true).is_ok_and(|store| !store));
        assert!(query("a=1&a=2").is_err_and(|problem| problem.contains("twice")));
        assert!(query("store=perhaps").expect("pairs").switch("store", true).is_err());
    }
}
