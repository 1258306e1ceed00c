//! What the tests share: the built binary, a store on a temporary folder, and
//! an HTTP client that does exactly what it is told, also what a good client
//! never does.

pub mod bin_path;
pub mod raw_http;
pub mod store;
