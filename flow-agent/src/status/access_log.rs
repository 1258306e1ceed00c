//! The name of a request: headers enter, an identifier leaves that is in the answer and in the
//! log, so that a person with one finds the other.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// Where it is, in requests and answers.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A longer one is none that a person can use.
const MOST_OCTETS: usize = 64;

/// What the client calls its request, if that is harmless in a log; else a name of our own.
pub fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        let octets = value.as_bytes();
        let harmless = |octet: &u8| octet.is_ascii_alphanumeric() || b"-_.:".contains(octet);
        (1..=MOST_OCTETS).contains(&octets.len()) && octets.iter().all(harmless)
    };
    headers.get(X_REQUEST_ID).filter(sane).cloned().unwrap_or_else(|| {
        let made = Uuid::now_v7().simple().to_string();
        HeaderValue::from_str(&made).unwrap_or(HeaderValue::from_static("none"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_harmless_name_is_kept_and_any_other_replaced() {
        let of = |value: &[u8]| {
            let value = HeaderValue::from_bytes(value).expect("a header");
            let headers = [(X_REQUEST_ID, value)].into_iter().collect();
            request_id(&headers).to_str().expect("text").to_owned()
        };
        let long = "x".repeat(65);
        for kept in ["a", "1-67891233.abc", "0199_x:y", &long[1..]] {
            assert_eq!(of(kept.as_bytes()), kept);
        }
        for bad in [&b""[..], b"a b", b"a\tb", b"\xff", b"<x>", b"a\"b", long.as_bytes()] {
            let made = of(bad);
            assert!(made.len() == 32 && made.bytes().all(|octet| octet.is_ascii_hexdigit()));
        }
        assert_ne!(of(b""), of(b""));
    }
}
