//! When the store ends: leaves a future that is ready at the first signal to
//! stop, or at the end of standard input.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Ready at SIGTERM, SIGINT, SIGQUIT or SIGHUP, and at the end of standard
/// input if asked for: so a child ends when its parent does, however the
/// parent ends. A SIGHUP that is ignored at the start (nohup) stays so.
pub async fn stop_signal(stdin_eof: bool) {
    let hangup = async {
        if hangup_is_ignored() {
            std::future::pending::<()>().await;
        } else {
            next(signal(SignalKind::hangup())).await;
        }
    };
    let (eof, at_eof) = oneshot::channel();
    let _never_sent = if stdin_eof {
        // A plain thread: a blocked read must not keep the process from ending.
        std::thread::spawn(move || {
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            let _ = eof.send(());
        });
        None
    } else {
        Some(eof)
    };
    tokio::select! {
        () = next(signal(SignalKind::terminate())) => {}
        () = next(signal(SignalKind::interrupt())) => {}
        () = next(signal(SignalKind::quit())) => {}
        () = hangup => {}
        _ = at_eof => {}
    }
}

async fn next(signal: io::Result<Signal>) {
    match signal {
        Ok(mut signal) => {
            let _ = signal.recv().await;
        }
        Err(error) => tracing::error!(%error, "cannot wait for signals; stopping"),
    }
}

/// Whether whoever started this process wants it to outlive its terminal.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // Bit 0 is signal 1, SIGHUP.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}
