//! Messages that are repeated: so many in an interval, then they are counted and told in one line.
//!
//! It holds that memory is bounded, whatever is logged: a table of so many messages; what has no
//! place in it is let through.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Different messages that are watched at one time.
const MOST_MESSAGES: usize = 1024;
/// Octets of a message that are kept to tell it again.
const MOST_OCTETS: usize = 400;

/// What was said how often.
pub struct Repeats {
    /// Fast path of a log without a limit.
    limit: AtomicU32,
    book: Mutex<Book>,
    hasher: RandomState,
}

struct Book {
    interval: Duration,
    messages: HashMap<u64, Message>,
}

struct Message {
    level: Level,
    text: String,
    since: Instant,
    said: u32,
    left_out: u64,
}

/// What was left out of one message.
struct Summary {
    level: Level,
    text: String,
    left_out: u64,
    interval: Duration,
}

impl Repeats {
    /// The same message at most `limit` times in an interval; 0: always.
    pub fn new(limit: u32, interval: Duration) -> Self {
        let book = Book { interval, messages: HashMap::new() };
        Self { limit: AtomicU32::new(limit), book: Mutex::new(book), hasher: RandomState::new() }
    }

    /// Other limits from now on.
    pub fn set(&self, limit: u32, interval: Duration) {
        self.limit.store(limit, Ordering::Relaxed);
        self.book.lock().unwrap_or_else(PoisonError::into_inner).interval = interval;
    }

    /// True if this message may be said at `now`.
    fn admit(&self, level: Level, text: &str, now: Instant) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == 0 {
            return true;
        }
        let hash = self.hasher.hash_one((level, text));
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let interval = book.interval;
        if book.messages.len() >= MOST_MESSAGES && !book.messages.contains_key(&hash) {
            // What says nothing any more makes room; what was left out has to be told first.
            book.messages.retain(|_, message| {
                message.left_out > 0 || now.duration_since(message.since) < interval
            });
            if book.messages.len() >= MOST_MESSAGES {
                return true;
            }
        }
        let message = book.messages.entry(hash).or_insert_with(|| Message {
            level,
            text: shortened(text),
            since: now,
            said: 0,
            left_out: 0,
        });
        if message.left_out == 0 && now.duration_since(message.since) >= interval {
            (message.since, message.said) = (now, 0);
        }
        if message.said < limit {
            message.said += 1;
            return true;
        }
        message.left_out += 1;
        false
    }

    /// Tells what was left out in intervals that are over at `now`, or in all.
    pub fn tell(&self, now: Option<Instant>) {
        // Told without the lock: telling is logging.
        for Summary { level, text, left_out, interval } in self.over(now) {
            let seconds = interval.as_secs();
            macro_rules! told {
                ($event:ident) => {
                    tracing::$event!("{left_out} times more within {seconds} s: {text}")
                };
            }
            match level {
                Level::ERROR => told!(error),
                Level::WARN => told!(warn),
                Level::INFO => told!(info),
                Level::DEBUG => told!(debug),
                Level::TRACE => told!(trace),
            }
        }
    }

    fn over(&self, now: Option<Instant>) -> Vec<Summary> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let interval = book.interval;
        let is_over = |message: &Message| {
            now.is_none_or(|now| now.saturating_duration_since(message.since) >= interval)
        };
        let over = book.messages.extract_if(|_, message| is_over(message));
        over.filter(|(_, message)| message.left_out > 0)
            .map(|(_, Message { level, text, left_out, .. })| Summary {
                level,
                text,
                left_out,
                interval,
            })
            .collect()
    }
}

/// Lets events through that have not been said too often, and no spans: the agent has none, and
/// those of libraries would have to be known to every form of output from their beginning.
pub struct Throttle(pub std::sync::Arc<Repeats>);

impl<S: Subscriber> Layer<S> for Throttle {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        !metadata.is_span()
    }

    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.admit(*event.metadata().level(), &text.0, Instant::now())
    }
}

/// An event as one text.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // To a String it cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            // Where the kernel side's or a library's line is from.
            name if name.starts_with("log.") => Ok(()),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(MOST_OCTETS.min(text.len()))].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(60);

    #[test]
    fn the_same_message_is_said_so_often_and_the_rest_is_counted() {
        let (repeats, start) = (Repeats::new(3, INTERVAL), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        let said = (0..10).filter(|s| repeats.admit(Level::WARN, "full", at(*s))).count();
        assert_eq!(said, 3);
        assert!(repeats.admit(Level::WARN, "other", at(10)), "only the same one is limited");
        assert!(repeats.admit(Level::ERROR, "full", at(10)), "nor by a lower level");
        assert!(repeats.over(Some(at(59))).is_empty());
        let told = repeats.over(Some(at(60)));
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].left_out, &*told[0].text), (7, "full"));
        assert!(repeats.over(Some(at(61))).is_empty(), "told once");
        assert!(repeats.admit(Level::WARN, "full", at(61)), "the next interval");
    }

    #[test]
    fn a_seldom_message_is_always_said_and_nothing_is_counted() {
        let (repeats, start) = (Repeats::new(1, INTERVAL), Instant::now());
        for minute in 0..5 {
            let now = start + INTERVAL * minute;
            assert!(repeats.admit(Level::INFO, "hello", now));
        }
        assert!(repeats.over(None).is_empty());
    }

    #[test]
    fn different_messages_without_end_take_no_memory_without_end() {
        let (repeats, now) = (Repeats::new(1, INTERVAL), Instant::now());
        for number in 0..5 * MOST_MESSAGES {
            assert!(repeats.admit(Level::INFO, &number.to_string(), now), "said once each");
        }
        assert!(repeats.book.lock().expect("ours").messages.len() <= MOST_MESSAGES);
    }

    #[test]
    fn without_a_limit_everything_is_said() {
        let (repeats, now) = (Repeats::new(0, INTERVAL), Instant::now());
        assert!((0..100).all(|_| repeats.admit(Level::INFO, "again", now)));
    }
}
