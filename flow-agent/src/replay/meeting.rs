//! Where the threads of a replay meet: the last one to come does what needs all of them to be
//! there, while the others wait.
//!
//! They meet hundreds of times a second and seldom wait for long, so a thread looks for a while
//! before it sleeps: to be woken takes longer than most waits.

use std::hint;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use super::rounds::lock;

/// Looks before a thread sleeps: about 50 µs.
const LOOKS: usize = 4_096;

/// A place to meet.
#[derive(Debug)]
pub struct Meeting {
    threads: usize,
    arrived: Mutex<usize>,
    /// Meetings so far.
    over: AtomicUsize,
    woken: Condvar,
}

impl Meeting {
    /// For so many threads, at least one.
    pub fn new(threads: usize) -> Self {
        Self { threads, arrived: Mutex::new(0), over: AtomicUsize::new(0), woken: Condvar::new() }
    }

    /// Comes to the meeting. When all are there the last one does `alone`, which must not panic;
    /// the others see what it did.
    pub fn meet(&self, alone: impl FnOnce()) {
        let before = self.over.load(Ordering::Acquire);
        let is_last = {
            let mut arrived = lock(&self.arrived);
            *arrived = (*arrived + 1) % self.threads;
            *arrived == 0
        };
        if is_last {
            alone();
            // Under the lock, or who is about to sleep would miss it.
            let arrived = lock(&self.arrived);
            self.over.store(before.wrapping_add(1), Ordering::Release);
            drop(arrived);
            self.woken.notify_all();
            return;
        }
        let is_over = || self.over.load(Ordering::Acquire) != before;
        for _ in 0..LOOKS {
            if is_over() {
                return;
            }
            hint::spin_loop();
        }
        let mut arrived = lock(&self.arrived);
        while !is_over() {
            arrived = self.woken.wait(arrived).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn nobody_leaves_before_the_last_has_done_its_part() {
        const THREADS: usize = 3;
        const MEETINGS: usize = 20_000;
        let (meeting, done) = (Meeting::new(THREADS), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for number in 0..MEETINGS {
                        let count = || assert_eq!(done.fetch_add(1, Ordering::Relaxed), number);
                        meeting.meet(count);
                        assert_eq!(done.load(Ordering::Relaxed), number + 1);
                        // All have looked before one goes on.
                        meeting.meet(|| ());
                    }
                });
            }
        });
        assert_eq!(done.into_inner(), MEETINGS);
    }
}
