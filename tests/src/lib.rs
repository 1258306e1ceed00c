//! What the tests share: the built binary, and an HTTP client that does
//! exactly what it is told, also what a good client never does.

pub mod bin_path;
pub mod raw_http;
