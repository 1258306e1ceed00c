//! When to stop: SIGINT, SIGTERM and SIGQUIT; when to read the configuration again:
//! SIGHUP. Or whoever holds the other end in a test.

use std::thread;

use crossbeam::channel::{Receiver, Sender, bounded};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a running agent is asked for.
pub struct Requests {
    /// To stop.
    pub stop: Receiver<()>,
    /// To read its configuration again.
    pub reload: Receiver<()>,
}

/// Channels that get a message at these signals. The second one to stop ends the
/// process at once. Until this is called all of them end it, too.
///
/// # Errors
/// The system refuses a thread or a signal handler.
pub fn on_signals() -> std::io::Result<Requests> {
    let (sender, stop) = bounded(1);
    // One that waits is enough: it reads what is there then.
    let (reload_sender, reload) = bounded(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _context = runtime.enter();
        Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            reload: reload_sender,
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
                 what is neither in the store nor in a spool on disk is lost, and the next agent \
                 names it"
            );
            std::process::exit(1);
        });
    })?;
    Ok(Requests { stop, reload })
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    hangup: Signal,
    reload: Sender<()>,
}

impl Signals {
    /// The next one to stop.
    async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.quit.recv() => return,
                _ = self.hangup.recv() => drop(self.reload.try_send(())),
            }
        }
    }
}
