//! Who runs at a time and who waits: enters the class of a statement, leaves a
//! place for it. What must hold: places and queues are bounded; a queue is
//! served in the order of arrival; selects, however slow their readers, leave
//! inserts their places, and nobody ever makes a KILL wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failure::{Failure, code};
use super::lexer::Lexer;

/// What kind of place a statement needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// An insert, its data included.
    Insert,
    /// An order to end another statement.
    Kill,
    /// Everything else.
    Other,
}

/// Places of each class.
const INSERTS: usize = 16;
const KILLS: usize = 8;
const OTHERS: usize = 24;
/// Statements of each class that may wait for a place.
pub const QUEUE: usize = 128;

/// Statements of all classes that run at the same time.
pub const MAX_STATEMENTS: usize = INSERTS + KILLS + OTHERS;

impl Class {
    /// The class of what this text begins with.
    pub fn of(text: &[u8]) -> Self {
        let first = Lexer::new(text).next();
        let is = |word| first.is_some_and(|token| token.is_word(text, word));
        if is("INSERT") {
            Self::Insert
        } else if is("KILL") {
            Self::Kill
        } else {
            Self::Other
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::Insert => "inserts",
            Self::Kill => "KILL statements",
            Self::Other => "queries",
        }
    }
}

struct Room {
    size: usize,
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Room {
    fn new(size: usize) -> Self {
        Self { size, free: Arc::new(Semaphore::new(size)), waiting: AtomicUsize::new(0) }
    }
}

/// The places of a store.
pub struct Places {
    rooms: [Room; 3],
}

impl Default for Places {
    fn default() -> Self {
        Self { rooms: [Room::new(INSERTS), Room::new(KILLS), Room::new(OTHERS)] }
    }
}

/// Leaves the queue, also when the client goes away while it waits.
struct Waiter<'a>(&'a AtomicUsize);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Places {
    /// Waits for a place; refuses when too many wait already.
    pub async fn take(&self, class: Class) -> Result<OwnedSemaphorePermit, Failure> {
        let room = &self.rooms[class as usize];
        if let Ok(place) = Arc::clone(&room.free).try_acquire_owned() {
            return Ok(place);
        }
        let before = room.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiter = Waiter(&room.waiting);
        if before >= QUEUE {
            return Err(Failure::new(
                code::TOO_MANY_SIMULTANEOUS_QUERIES,
                "TOO_MANY_SIMULTANEOUS_QUERIES",
                format_args!(
                    "Too many simultaneous {}: {} run and {QUEUE} wait; try again later",
                    class.plural(),
                    room.size
                ),
            ));
        }
        Arc::clone(&room.free)
            .acquire_owned()
            .await
            .map_err(|_| Failure::new(code::ABORTED, "ABORTED", "The store is stopping"))
    }

    /// Statements that run.
    pub fn running(&self) -> usize {
        self.rooms.iter().map(|room| room.size - room.free.available_permits()).sum()
    }

    /// Returns when no statement runs; none can begin after that.
    pub async fn close(&self) {
        for room in &self.rooms {
            let all = u32::try_from(room.size).expect("a small number");
            if let Ok(places) = room.free.acquire_many(all).await {
                places.forget();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn the_first_word_says_the_class() {
        for (text, class) in [
            ("INSERT INTO t FORMAT Native", Class::Insert),
            ("/* x */ insert into t values", Class::Insert),
            ("-- a\n KILL QUERY WHERE 1", Class::Kill),
            ("SELECT 'INSERT'", Class::Other),
            ("", Class::Other),
        ] {
            assert_eq!(Class::of(text.as_bytes()), class, "{text}");
        }
    }

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn queries_fill_their_own_places_and_a_bounded_queue_in_order() {
        let places = Places::default();
        let take = |class| {
            let Poll::Ready(taken) = poll(std::pin::pin!(places.take(class))) else {
                panic!("{class:?} waits")
            };
            taken
        };
        let mut held: Vec<_> = (0..OTHERS).map(|_| take(Class::Other).unwrap()).collect();
        assert_eq!(places.running(), OTHERS);
        let mut queue: Vec<_> = (0..QUEUE).map(|_| Box::pin(places.take(Class::Other))).collect();
        assert!(queue.iter_mut().all(|waiting| poll(waiting.as_mut()).is_pending()));
        let refused = take(Class::Other).unwrap_err();
        assert_eq!(refused.code, code::TOO_MANY_SIMULTANEOUS_QUERIES);
        assert_eq!(refused.status().as_u16(), 503);
        drop(take(Class::Insert).unwrap());
        drop(take(Class::Kill).unwrap());
        // A place that comes free is the first waiter's, not the last one's.
        held.pop();
        assert!(poll(queue.last_mut().unwrap().as_mut()).is_pending());
        assert!(poll(queue[0].as_mut()).is_ready());
        // Who goes away makes room in the queue.
        queue.truncate(QUEUE / 2);
        assert!(poll(std::pin::pin!(places.take(Class::Other))).is_pending());
    }
}
