//! What systemd is told: ready, reloading, stopping, a line of status, and signs of life.
//!
//! Enters: what the drain loop does. Leaves: [`Notifications`], if there is a socket for them.
//! It must hold that the loop never waits for who reads them, and that a sign of life is given
//! only by a loop that drains: one that hangs, or fails to drain, says nothing, and systemd starts
//! another agent in time.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::notify::Notifications;
use crate::status::Vitals;

/// Between two lines of status.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// The service manager that started the agent, if one did.
#[derive(Debug)]
pub struct Manager {
    /// Between two signs of life: a third of what systemd waits for one.
    alive_every: Option<Duration>,
    alive_at: Option<Instant>,
    status_at: Option<Instant>,
    interfaces: Option<usize>,
    notifications: Notifications,
}

impl Manager {
    /// The one that waits for signs of life for `watchdog`, or not for any.
    pub fn new(watchdog: Option<Duration>) -> Self {
        let alive_every = watchdog.map(|wait| wait / 3);
        let notifications = Notifications::of_environment();
        Self { alive_every, alive_at: None, status_at: None, interfaces: None, notifications }
    }

    /// A turn of the loop: says what could not be said before.
    pub fn turn(&mut self) {
        self.notifications.flush();
    }

    /// All interfaces that there are, so many, are metered.
    pub fn metering(&mut self, interfaces: usize) {
        self.interfaces = Some(interfaces);
        let status = format!("metering {interfaces} interfaces");
        self.notifications.say(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// The configuration is going to be read again; [`Manager::reloaded`] follows.
    pub fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.notifications.say(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!("systemd is not told of the reload: {error}"),
        }
    }

    /// The configuration was read again.
    pub fn reloaded(&mut self) {
        // What was not ready before is not made ready by this.
        if self.interfaces.is_some() {
            self.notifications.say(&[NotifyState::Ready]);
        }
    }

    /// It detaches, drains and delivers for the last time.
    pub fn stopping(&mut self) {
        let status = "stopping: everything goes to the store";
        self.notifications.say(&[NotifyState::Stopping, NotifyState::Status(status)]);
    }

    /// The loop has come round at `now`, and its last drain did not fail.
    pub fn alive(&mut self, now: Instant, vitals: &Vitals) {
        if due(self.alive_every, self.alive_at, now)
            && self.notifications.mention(&[NotifyState::Watchdog])
        {
            self.alive_at = Some(now);
        }
        if let Some(interfaces) = self.interfaces
            && due(Some(STATUS_EVERY), self.status_at, now)
        {
            let figures = vitals.figures();
            let (drains, failed) = (figures.drains, figures.failed);
            let fill = figures.fill.flows * 100.0;
            let status = format!(
                "metering {interfaces} interfaces; {drains} drains, {failed} failed; \
                 kernel tables {fill:.0} % full"
            );
            if self.notifications.mention(&[NotifyState::Status(&status)]) {
                self.status_at = Some(now);
            }
        }
    }
}

/// True if what happens `every` so often is to happen now.
fn due(every: Option<Duration>, last: Option<Instant>, now: Instant) -> bool {
    every.is_some_and(|every| last.is_none_or(|last| now.duration_since(last) >= every))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_life_come_three_times_as_often_as_they_are_waited_for() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let every = Manager::new(Some(Duration::from_secs(30))).alive_every;
        assert!(due(every, None, start), "the first one is given at once");
        assert!(!due(every, Some(start), at(9_999)));
        assert!(due(every, Some(start), at(10_000)));
        assert!(!due(Manager::new(None).alive_every, None, start), "nobody waits for any");
    }
}
