//! When to stop: SIGINT, SIGTERM, SIGHUP and SIGQUIT, or whoever holds the other
//! end in a test.

use std::thread;

use crossbeam::channel::{Receiver, bounded};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A channel that gets a message at the first of these signals. The second one
/// ends the process at once. Until this is called they end it, too.
///
/// # Errors
/// The system refuses a thread or a signal handler.
pub fn on_signals() -> std::io::Result<Receiver<()>> {
    let (sender, receiver) = bounded(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _context = runtime.enter();
        Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
        }
    };
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            signals.next().await;
            // Nobody may be listening any more, because the agent is stopping anyway.
            let _ = sender.try_send(());
            signals.next().await;
            eprintln!(
                "flow-agent: second signal: stopping at once; \
                 what is not in the store yet is lost"
            );
            std::process::exit(1);
        });
    })?;
    Ok(receiver)
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    quit: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
            _ = self.quit.recv() => {}
        }
    }
}
