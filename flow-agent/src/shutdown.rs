//! When to stop: SIGINT and SIGTERM, or whoever holds the other end in a test.

use std::thread;

use crossbeam::channel::{Receiver, bounded};
use tokio::signal::unix::{SignalKind, signal};

/// A channel that gets a message at the first SIGINT or SIGTERM. The second one
/// ends the process at once.
///
/// # Errors
/// The system refuses a thread or a signal handler.
pub fn on_signals() -> std::io::Result<Receiver<()>> {
    let (sender, receiver) = bounded(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _context = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if sender.try_send(()).is_err() {
                    eprintln!("flow-agent: second signal: stopping at once");
                    std::process::exit(1);
                }
            }
        });
    })?;
    Ok(receiver)
}
