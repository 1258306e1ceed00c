//! A process whose `CLOCK_REALTIME` is set while it runs, by Debian's libfaketime.

use std::path::Path;

use anyhow::{Context, Result};

/// Debian's folder of it; the library is the one for programs with threads.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// Words before a command whose clock is this file's: seconds to the real one, as `+3600`. Read at
/// each look at the clock.
pub fn clocked(file: &Path) -> Result<[String; 5]> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"];
    let library = folders.iter().map(|folder| Path::new(folder).join(LIBRARY));
    let library = library.into_iter().find(|library| library.exists());
    let library = library.context("there is no libfaketime: run `cargo xtask setup`")?;
    Ok([
        "env".into(),
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", file.display()),
        "FAKETIME_NO_CACHE=1".into(),
        // Only CLOCK_REALTIME can be set.
        "FAKETIME_DONT_FAKE_MONOTONIC=1".into(),
    ])
}
