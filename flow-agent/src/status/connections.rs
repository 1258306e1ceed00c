//! Who has a place: connections enter as tasks and leave when they are done.
//!
//! When all places are taken, the oldest that has asked for nothing yet makes room for the next;
//! if all have asked, the next is told to come later. It holds that nobody loses the place whose
//! request has come.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet, yield_now};
use tokio::time::Instant;

/// When all places are taken: one that has asked for nothing for so long makes room, and if all
/// have asked and none is done for so long, the next is sent away.
const GRACE: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(1);

/// Those that are open.
#[derive(Default)]
pub struct Connections {
    tasks: JoinSet<()>,
    /// The oldest first.
    silent: VecDeque<Silent>,
}

/// A connection that had asked for nothing when it was last looked at.
struct Silent {
    task: AbortHandle,
    asked: Arc<AtomicBool>,
    since: Instant,
}

impl Silent {
    fn is_so(&self) -> bool {
        !self.task.is_finished() && !self.asked.load(Ordering::Relaxed)
    }
}

impl Connections {
    /// How many they are.
    pub fn open(&self) -> usize {
        self.tasks.len()
    }

    /// Waits until one of them is done.
    pub async fn one_ended(&mut self) {
        self.tasks.join_next().await;
    }

    /// Waits until there is a place among `most`, and ends the oldest connection that has asked
    /// for nothing for a while; gives up if all have asked and none is done soon.
    pub async fn make_room(&mut self, most: usize) {
        while self.tasks.len() >= most {
            let Some(oldest) = self.silent.front() else {
                if tokio::time::timeout(PATIENCE, self.tasks.join_next()).await.is_err() {
                    return;
                }
                continue;
            };
            if oldest.is_so() {
                tokio::select! {
                    _ = self.tasks.join_next() => continue,
                    () = tokio::time::sleep_until(oldest.since + GRACE) => {}
                }
                // If this thread stood still so long, what came meanwhile is unread: a turn for
                // the driver to see it, and one for the connection to read it.
                yield_now().await;
                yield_now().await;
                if oldest.is_so() {
                    oldest.task.abort();
                    // This one, or another that has ended by itself.
                    self.tasks.join_next().await;
                }
            }
            self.silent.pop_front();
        }
    }

    /// Begins one that says through what it is given when it has asked for something.
    pub fn begin<F>(&mut self, connection: impl FnOnce(Arc<AtomicBool>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let asked = Arc::new(AtomicBool::new(false));
        let task = self.tasks.spawn(connection(asked.clone()));
        self.silent.push_back(Silent { task, asked, since: Instant::now() });
        if self.silent.len() > 2 * self.tasks.len() + 16 {
            self.silent.retain(Silent::is_so);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::io::Write as _;
    use std::net::TcpListener;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpStream;

    use super::*;

    /// Both ends of a connection over loopback: the client's, and the server's.
    fn pair() -> (std::net::TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let client = std::net::TcpStream::connect(address).expect("it listens");
        let (server, _) = listener.accept().expect("just connected");
        server.set_nonblocking(true).expect("a socket can be so");
        (client, TcpStream::from_std(server).expect("in a runtime"))
    }

    /// Reads one octet for a request, and is then busy for ever.
    async fn busy(mut stream: TcpStream, asked: Arc<AtomicBool>) {
        if stream.read_u8().await.is_ok() {
            asked.store(true, Ordering::Relaxed);
        }
        pending::<()>().await;
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "standing still is what is tried")]
    async fn who_asked_while_the_thread_stood_still_keeps_the_place() {
        let (mut connections, (mut client, server)) = (Connections::default(), pair());
        connections.begin(|asked| busy(server, asked));
        // It waits for its client.
        yield_now().await;
        client.write_all(b"?").expect("the other end is open");
        std::thread::sleep(2 * GRACE);
        connections.make_room(1).await;
        assert_eq!(connections.open(), 1);
    }

    #[tokio::test]
    async fn the_oldest_that_is_silent_makes_room() {
        let mut connections = Connections::default();
        let ends = [pair(), pair(), pair()].map(|(client, server)| {
            connections.begin(|asked| busy(server, asked));
            client.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket can be so");
            client
        });
        (&ends[0]).write_all(b"?").expect("the other end is open");
        connections.make_room(3).await;
        let open = |client: &std::net::TcpStream| {
            client.set_nonblocking(true).expect("a socket can be so");
            client.peek(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        };
        assert_eq!(ends.each_ref().map(open), [true, false, true]);
    }
}
