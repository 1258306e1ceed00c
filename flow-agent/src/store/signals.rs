//! When the store ends: leaves a future that is ready at the first signal to
//! stop, or at the end of standard input.

use std::future::Future;
use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Ready at SIGTERM, SIGINT, SIGQUIT or SIGHUP, and at the end of standard
/// input if asked for: so a child ends when its parent does, however the
/// parent ends. A SIGHUP that is ignored at the start (nohup) stays so.
///
/// The signals are caught from the call on, not only when the future is polled. To be
/// called in a runtime.
///
/// # Errors
/// The system refuses a signal handler.
pub fn stop_signal(stdin_eof: bool) -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut hangup = if hangup_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
    Ok(async move {
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
        let hangup = async {
            match &mut hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = quit.recv() => {}
            () = hangup => {}
            _ = at_eof => {}
        }
    })
}

/// Whether whoever started this process wants it to outlive its terminal.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // Bit 0 is signal 1, SIGHUP.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}
