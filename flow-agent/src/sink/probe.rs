//! Asks servers that failed whether they answer again.
//!
//! Enters: what is known of the servers. Leaves: the same, with answers. It has a thread and
//! connections of its own, so that no batch waits for it.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Endpoints, SinkError, Target};

/// How often it is looked whether a server should be asked.
const LOOK: Duration = Duration::from_millis(500);

/// Between two looks at a server that has not been prepared yet, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The running thread; it ends when this is dropped.
pub struct Prober {
    /// Its end stops the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Prober {
    /// Starts it. A server that answers again is given to `prepare`, and counts as answering
    /// only when that succeeds, too. Those of `unprepared` shards are asked until it has succeeded once,
    /// whatever others hear of them meanwhile.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(
        endpoints: Endpoints,
        unprepared: Vec<usize>,
        prepare: impl AsyncFn(&Target) -> Result<(), SinkError> + Send + 'static,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("probe".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = probe(&endpoints, &unprepared, prepare) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

async fn probe(
    endpoints: &Endpoints,
    unprepared: &[usize],
    prepare: impl AsyncFn(&Target) -> Result<(), SinkError>,
) {
    // Of these endpoints: connections belong to the runtime that made them.
    let mut unprepared: Vec<Target> =
        endpoints.all().filter(|target| unprepared.contains(&target.shard())).collect();
    let ask = async |target: &Target| {
        let answer = async {
            target.client.probe().await?;
            prepare(target).await
        };
        let answer = answer.await;
        endpoints.report_probe(target, answer.as_ref().copied(), Instant::now());
        answer.is_ok()
    };
    let mut looks = tokio::time::interval(LOOK);
    let (mut pause, mut next) = (LOOK, Instant::now());
    loop {
        looks.tick().await;
        if !unprepared.is_empty() && next <= Instant::now() {
            let mut still = Vec::new();
            for target in unprepared {
                if !ask(&target).await {
                    still.push(target);
                }
            }
            unprepared = still;
            pause = LONGEST_PAUSE.min(pause * 2);
            next = Instant::now() + pause;
        }
        while let Some(target) = endpoints.due_probe(Instant::now()) {
            ask(&target).await;
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of it has been told.
            let _ = thread.join();
        }
    }
}
