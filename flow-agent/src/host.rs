//! What the agent must know of its host.

/// The host's name, for rows.
pub fn host_name() -> String {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".into() } else { name }
}
