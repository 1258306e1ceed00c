//! Requests to the status: one answer to one request, whatever comes; and only what stands in the
//! list of pages is answered.

use flow_agent::fuzz::status::connection;

use super::block_on;

/// See the module.
pub fn run(octets: &[u8]) {
    let asked = block_on(connection(octets));
    assert!(asked.requests.len() <= 1, "a connection has one request: {:?}", asked.requests);
    if !asked.answer.is_empty() {
        assert!(asked.answer.starts_with(b"HTTP/1."), "an answer that is no HTTP");
    }
    if let Some(Ok(path)) = asked.requests.first() {
        // Whatever was written in front of it, or in which letters: no other page is meant.
        assert!(path.starts_with('/') && !path.contains(['%', '\\', '\0', '?']), "{path:?}");
        assert!(!path.contains("..") && !path.contains("//"), "{path:?}");
    }
}
