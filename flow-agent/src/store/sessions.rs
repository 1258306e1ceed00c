//! Sessions by name: a connection that is kept between requests with its
//! temporary tables and SET values. What must hold: one request at a time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::failure::{Failure, code};
use super::ffi::Connection;
use super::request::Session;

/// An idle session costs memory in the engine; the one that ends first gives way.
const MAX_SESSIONS: usize = 64;

enum Slot<C> {
    Busy,
    Idle { connection: C, expires: Instant },
}

/// The sessions of a store.
pub struct Sessions<C = Connection>(Mutex<HashMap<String, Slot<C>>>);

impl<C> Default for Sessions<C> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<C> Sessions<C> {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Slot<C>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the connection of a session, or none for a new session; the
    /// session is then busy until [`Self::give`] or [`Self::end`].
    pub fn take(&self, session: &Session, now: Instant) -> Result<Option<C>, Failure> {
        let mut slots = self.lock();
        slots.retain(|_, slot| !matches!(slot, Slot::Idle { expires, .. } if *expires <= now));
        match slots.get(&session.id) {
            Some(Slot::Busy) => {
                return Err(Failure::new(
                    code::SESSION_IS_LOCKED,
                    "SESSION_IS_LOCKED",
                    format_args!("Session {} is locked by a concurrent client", session.id),
                ));
            }
            None if session.check => {
                return Err(Failure::new(
                    code::SESSION_NOT_FOUND,
                    "SESSION_NOT_FOUND",
                    format_args!("Session {} not found", session.id),
                ));
            }
            Some(Slot::Idle { .. }) | None => {}
        }
        match slots.insert(session.id.clone(), Slot::Busy) {
            Some(Slot::Idle { connection, .. }) => Ok(Some(connection)),
            Some(Slot::Busy) | None => Ok(None),
        }
    }

    /// Gives the connection of a session back, for the next request.
    pub fn give(&self, session: &Session, connection: C, now: Instant) {
        let mut slots = self.lock();
        if slots.len() > MAX_SESSIONS {
            let first = slots
                .iter()
                .filter_map(|(id, slot)| match slot {
                    Slot::Idle { expires, .. } => Some((*expires, id.clone())),
                    Slot::Busy => None,
                })
                .min();
            if let Some((_, id)) = first {
                slots.remove(&id);
            }
        }
        slots.insert(session.id.clone(), Slot::Idle { connection, expires: now + session.timeout });
    }

    /// Forgets a session.
    pub fn end(&self, session: &Session) {
        self.lock().remove(&session.id);
    }

    /// Closes all sessions.
    pub fn clear(&self) {
        self.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn session(id: &str, check: bool) -> Session {
        Session { id: id.to_owned(), timeout: Duration::from_secs(1), check }
    }

    #[test]
    fn a_session_serves_one_request_and_expires() {
        let sessions = Sessions::default();
        let (a, now) = (session("a", false), Instant::now());
        assert_eq!(
            sessions.take(&session("a", true), now).unwrap_err().code,
            code::SESSION_NOT_FOUND
        );
        assert_eq!(sessions.take(&a, now).unwrap(), None);
        assert_eq!(sessions.take(&a, now).unwrap_err().code, code::SESSION_IS_LOCKED);
        sessions.give(&a, 7, now);
        assert_eq!(sessions.take(&session("a", true), now).unwrap(), Some(7));
        sessions.give(&a, 7, now);
        assert_eq!(sessions.take(&a, now + Duration::from_secs(2)).unwrap(), None);
    }

    #[test]
    fn the_number_is_bounded() {
        let sessions = Sessions::default();
        let now = Instant::now();
        for n in 0..2 * MAX_SESSIONS {
            let session = session(&n.to_string(), false);
            sessions.take(&session, now).unwrap();
            sessions.give(&session, n, now);
        }
        assert!(sessions.lock().len() <= MAX_SESSIONS + 1);
    }
}
