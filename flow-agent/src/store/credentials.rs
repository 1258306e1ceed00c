//! Who may ask: enters the credentials of a request, leaves yes or a refusal
//! as ClickHouse words it. What must hold: a store that was given a key
//! answers nobody without it, and the key is never shown.

use std::fmt;
use std::io::{self, BufRead as _};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hyper::HeaderMap;
use rustix::rand::{GetRandomFlags, getrandom};

use super::failure::{Failure, code};

/// The one user.
pub const USER: &str = "default";

/// The password of a store that serves only the process that started it.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// A new one of 192 random bits.
    pub fn draw() -> io::Result<Self> {
        let mut bits = [0_u8; 24];
        let drawn = getrandom(&mut bits, GetRandomFlags::empty())?;
        assert_eq!(drawn, bits.len(), "getrandom fills up to 256 octets at once");
        Ok(Self(URL_SAFE_NO_PAD.encode(bits)))
    }

    /// The first line of standard input, where the parent writes it.
    pub fn read_stdin() -> io::Result<Self> {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        match line.trim_end() {
            "" => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no key on standard input")),
            key => Ok(Self(key.to_owned())),
        }
    }

    /// To be sent as the password.
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// Compares in a time that does not tell where they differ.
    fn matches(&self, password: &str) -> bool {
        let (own, given) = (self.0.as_bytes(), password.as_bytes());
        let differ = own.iter().zip(given).fold(0, |differ, (a, b)| differ | (a ^ b));
        own.len() == given.len() && differ == 0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(hidden)")
    }
}

/// A user and a password, as a request names them.
#[derive(Default)]
pub struct Credentials {
    /// The user; empty means `default`.
    pub user: String,
    /// The password.
    pub password: String,
}

impl Credentials {
    /// Those of the headers.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, Failure> {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(value) = header("authorization") else {
            let text = |name| header(name).unwrap_or_default().to_owned();
            return Ok(Self {
                user: text("x-clickhouse-user"),
                password: text("x-clickhouse-key"),
            });
        };
        let basic = || {
            let (scheme, encoded) = value.split_once(' ')?;
            let decoded = STANDARD.decode(encoded.trim()).ok()?;
            let text = String::from_utf8(decoded).ok()?;
            let (user, password) = text.split_once(':').unwrap_or((&text, ""));
            let credentials = Self { user: user.to_owned(), password: password.to_owned() };
            scheme.eq_ignore_ascii_case("basic").then_some(credentials)
        };
        basic().ok_or_else(|| refused("the embedded store knows Basic authentication and no other"))
    }

    /// Whether they may ask a store with this key. A store without one serves
    /// whoever reaches it, and refuses all other credentials: a client that
    /// brings some believes in a protection that is not there.
    pub fn check(&self, key: Option<&Key>) -> Result<(), Failure> {
        let known = matches!(self.user.as_str(), "" | USER);
        let (right, only) = match key {
            Some(key) => (
                key.matches(&self.password),
                "with the key that the agent drew when it started the store; \
                 for other clients, start `flow-agent store`",
            ),
            None => (self.password.is_empty(), "without a password"),
        };
        if known && right {
            return Ok(());
        }
        let user = if self.user.is_empty() { USER } else { &self.user };
        Err(refused(format_args!(
            "{user}: password is incorrect, or there is no user with such name. \
             The embedded store has one user, `{USER}`, {only}"
        )))
    }
}

fn refused(why: impl fmt::Display) -> Failure {
    Failure::new(
        code::AUTHENTICATION_FAILED,
        "AUTHENTICATION_FAILED",
        format_args!("Authentication failed: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_opens_and_it_is_not_shown() {
        let key = Key::draw().unwrap();
        assert_ne!(key, Key::draw().unwrap());
        assert!(!format!("{key:?}").contains(key.secret()));
        let check = |user: &str, password: &str| {
            let credentials = Credentials { user: user.into(), password: password.into() };
            credentials.check(Some(&key)).map_err(|failure| failure.status().as_u16())
        };
        assert_eq!(check("default", key.secret()), Ok(()));
        assert_eq!(check("", key.secret()), Ok(()));
        for (user, password) in
            [("bob", key.secret()), ("default", ""), ("", ""), ("default", &key.secret()[1..])]
        {
            assert_eq!(check(user, password), Err(403), "{user}");
        }
    }
}
