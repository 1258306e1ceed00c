//! What an error of the HTTP client is about.
//!
//! Enters: an error and what is behind it. Leaves: a [`Problem`], by the types that the
//! connector and the look at answers put there, not by words.

use std::error::Error;
use std::io;

use hyper_util::client::legacy;

use super::answer::Strange;
use super::dial::DialError;

/// What went wrong on the way.
#[derive(Debug, PartialEq, Eq)]
pub enum Problem {
    /// Nothing was sent.
    NoConnection(String),
    /// A certificate, a version, a name; nothing that was sent was taken.
    Tls(String),
    /// The answer is none of ClickHouse's.
    Strange(String),
    /// Anything else: something may have been sent.
    Other(String),
}

impl Problem {
    /// Looks through what is behind `error`.
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        let mut last = error.to_string();
        let mut connecting = false;
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(strange) = error.downcast_ref::<Strange>() {
                return Self::Strange(strange.to_string());
            }
            if let Some(DialError::Tls(error)) = error.downcast_ref::<DialError>() {
                return Self::Tls(tls_words(error));
            }
            if let Some(error) = error.downcast_ref::<rustls::Error>() {
                return Self::Tls(error.to_string());
            }
            connecting |=
                error.downcast_ref::<legacy::Error>().is_some_and(legacy::Error::is_connect);
            connecting |= error.is::<DialError>();
            last = error.to_string();
            // What is inside an I/O error is not its source but stands in its place.
            let inside = error
                .downcast_ref::<io::Error>()
                .and_then(|error| error.get_ref())
                .map(|inside| inside as &(dyn Error + 'static));
            next = inside.or_else(|| error.source());
        }
        if connecting { Self::NoConnection(last) } else { Self::Other(last) }
    }
}

/// What rustls says; an end in the middle of the greeting says nothing.
fn tls_words(error: &io::Error) -> String {
    let inside = error.get_ref().and_then(|inside| inside.downcast_ref::<rustls::Error>());
    match inside {
        Some(rustls::Error::InvalidMessage(_)) => {
            format!("{error}; if it is a port without TLS, write http")
        }
        _ => error.to_string(),
    }
}
