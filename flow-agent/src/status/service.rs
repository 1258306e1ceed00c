//! Who is let in: a request enters with its client, nothing or a refusal leaves.
//!
//! It must hold that nobody without the token learns anything but that the agent is alive, that
//! no client asks oftener than it may, and that no page of another host asks by a browser here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use hyper::StatusCode;
use hyper::header::{HOST, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use tokio::sync::Semaphore;

use super::limits::RateLimit;
use super::pprof::Profiler;
use super::respond::Refusal;
use super::{Access, Sources, page};

/// What all connections share.
pub struct Service {
    /// What is shown.
    pub sources: Arc<Sources>,
    /// Places for what may take long.
    pub workers: Semaphore,
    /// How often a client may ask.
    pub rates: RateLimit,
    /// Who may ask.
    pub access: Access,
    /// Makes profiles.
    pub profiler: Profiler,
}

impl Service {
    /// Whether this client may ask now.
    pub fn admit(&self, client: IpAddr, parts: &Parts, now: Instant) -> Result<(), Refusal> {
        if let Err(wait) = self.rates.take(client, now) {
            let most = self.rates.per_second();
            let problem = format!(
                "{client} asks more than {most} times a second; requests_per_second of [status] \
                 is the limit"
            );
            let wait = HeaderValue::from(wait.as_secs() + 1);
            let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, problem);
            return Err(Refusal { hint: Some((RETRY_AFTER, wait)), ..refusal });
        }
        if !self.access.needs_token() {
            return check_host(&parts.headers);
        }
        // Whether it is alive, and a page that has nothing in it, are all that these say.
        let path = parts.uri.path();
        if path == "/healthz" || page::is_page(path) || self.access.allows(&parts.headers, now) {
            return Ok(());
        }
        let problem = "a token is needed: send Authorization: Bearer TOKEN with what token_file of \
                       [status] holds";
        let schemes = "Bearer realm=\"flow-agent\", Basic realm=\"flow-agent\"";
        let hint = Some((WWW_AUTHENTICATE, HeaderValue::from_static(schemes)));
        Err(Refusal { hint, ..Refusal::new(StatusCode::UNAUTHORIZED, problem) })
    }
}

/// A page in a browser on this host must not be able to ask by another name for it.
pub(super) fn check_host(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(host) = headers.get(HOST) else { return Ok(()) };
    let text = host.to_str().unwrap_or_default();
    let name = match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => text.split(':').next().unwrap_or_default(),
    };
    let local = name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    if local || name.eq_ignore_ascii_case("localhost") {
        return Ok(());
    }
    let problem = format!("the host is {text:?}; ask by a loopback address or as localhost");
    Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_host_are_answered() {
        let check = |host: &'static str| {
            let headers = [(HOST, HeaderValue::from_static(host))].into_iter().collect();
            check_host(&headers).is_ok()
        };
        for host in ["127.0.0.1:9469", "127.0.0.1", "localhost:9469", "[::1]:9469", "LocalHost"] {
            assert!(check(host), "{host}");
        }
        for host in ["example.org", "10.0.0.1:9469", "", "127.0.0.1.example.org", "[2001:db8::1]"] {
            assert!(!check(host), "{host}");
        }
        assert!(check_host(&HeaderMap::new()).is_ok());
    }
}
