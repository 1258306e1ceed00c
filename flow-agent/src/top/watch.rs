//! The thread that asks the agent: time enters, looks or the reason why there is none leave.
//!
//! What must hold: at most one look waits to be shown, and a screen that is gone ends it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::history::Look;
use crate::status::{Client, StatusError};

/// What comes of asking.
pub type News = Result<Look, StatusError>;

/// The watch; it ends when this is dropped.
#[derive(Debug)]
pub struct Watch {
    /// What came.
    pub news: Receiver<News>,
    /// Held for its end.
    _stop: Sender<()>,
}

impl Watch {
    /// Asks from now on.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(client: Client, interval: Duration, limit: usize) -> std::io::Result<Self> {
        let (sender, news) = sync_channel(1);
        let (stop, stopped) = channel();
        let work = move || watch(client, interval, limit, &sender, &stopped);
        thread::Builder::new().name("top".into()).spawn(work)?;
        Ok(Self { news, _stop: stop })
    }
}

fn watch(
    client: Client,
    interval: Duration,
    limit: usize,
    sender: &SyncSender<News>,
    stopped: &Receiver<()>,
) {
    let began = Instant::now();
    loop {
        let asked = Instant::now();
        if sender.send(look(&client, limit, began)).is_err() {
            return;
        }
        // A slow agent is not asked more often for it.
        let rest = interval.saturating_sub(asked.elapsed()).max(interval / 4);
        if stopped.recv_timeout(rest) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// Looks once; its time is that since `began`.
///
/// # Errors
/// The agent is away or refuses.
pub fn look(client: &Client, limit: usize, began: Instant) -> News {
    let flows = client.page(&format!("/api/v1/flows/open?limit={limit}"))?;
    let at = began.elapsed();
    let flows = serde_json::from_value(flows).map_err(|error| StatusError::NotUnderstood {
        address: client.address(),
        problem: error.to_string(),
    })?;
    // No samples of its own series: rates are taken from look to look.
    let overview = client.page(&format!("/api/v1/overview?since={}", u64::MAX))?;
    Ok(Look { at, overview, flows })
}
