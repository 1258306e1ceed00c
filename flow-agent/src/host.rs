//! What the agent must know of its host.

/// The host's name, for rows.
pub fn host_name() -> String {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".into() } else { name }
}

/// Refuses a name that rows and people cannot tell from none.
///
/// # Errors
/// What a name must be.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err("a name without control characters, for example \"web-17\"");
    }
    Ok(())
}

/// The highest CPU number that is online, plus one.
#[cfg(feature = "live")]
pub fn online_cpus() -> u32 {
    match aya::util::online_cpus() {
        Ok(cpus) => cpus.iter().max().map_or(1, |last| last + 1),
        Err((_, error)) => {
            tracing::warn!(
                "the online CPUs cannot be listed ({error}); tables for the possible ones"
            );
            aya::util::nr_cpus().map_or(1, |cpus| cpus as u32)
        }
    }
}

/// The least limit of memory of the cgroup (version 2) that this process is in and of those
/// above it, in octets; none where there is no limit.
pub fn cgroup_memory_limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = std::path::Path::new("/sys/fs/cgroup");
    let limit = |group: &std::path::Path| {
        let text = std::fs::read_to_string(group.join("memory.max")).ok()?;
        text.trim().parse().ok()
    };
    let own = root.join(own);
    own.ancestors().take_while(|group| group.starts_with(root)).filter_map(limit).min()
}
