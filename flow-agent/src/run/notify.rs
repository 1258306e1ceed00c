//! systemd's notification socket: messages enter, datagrams leave.
//!
//! It must hold that nobody waits for who reads them. A manager that does not read, or has no
//! socket any more, gets what it must know later, in the order in which it was said.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use sd_notify::NotifyState;

/// Messages that wait at most. Only reloads can make more of them, and the oldest are then of
/// reloads that are over.
const MOST: usize = 8;

/// Where the service manager is told how it goes.
#[derive(Debug)]
pub struct Notifications {
    /// A path, or `@NAME`; none: there is no service manager.
    address: Option<OsString>,
    waiting: VecDeque<String>,
    /// The last try failed.
    trouble: bool,
}

impl Notifications {
    /// As the environment says.
    pub fn of_environment() -> Self {
        Self::to(std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty()))
    }

    /// To a socket.
    pub fn to(address: Option<OsString>) -> Self {
        Self { address, waiting: VecDeque::new(), trouble: false }
    }

    /// Says what must be known: now, or in a later turn.
    pub fn say(&mut self, states: &[NotifyState<'_>]) {
        if self.address.is_none() {
            return;
        }
        if self.waiting.len() == MOST {
            self.waiting.pop_front();
        }
        self.waiting.push_back(text(states));
        self.flush();
    }

    /// Says what is true now only; false if it was not sent, which the caller may do again.
    pub fn mention(&mut self, states: &[NotifyState<'_>]) -> bool {
        self.flush() && self.try_send(&text(states))
    }

    /// Sends what waits; true if nothing does any more.
    pub fn flush(&mut self) -> bool {
        while let Some(message) = self.waiting.pop_front() {
            if !self.try_send(&message) {
                self.waiting.push_front(message);
                return false;
            }
        }
        true
    }

    /// Sends a message without waiting for anybody.
    fn try_send(&mut self, message: &str) -> bool {
        let Some(address) = &self.address else { return true };
        let sent = connected(address).and_then(|socket| socket.send(message.as_bytes()));
        match &sent {
            Ok(_) if self.trouble => {
                self.trouble = false;
                tracing::info!("the service manager takes notifications again");
            }
            Err(error) if !self.trouble => {
                self.trouble = true;
                tracing::warn!(
                    "the service manager cannot be told: {error}; it is tried again in each turn, \
                     and metering goes on"
                );
            }
            _ => {}
        }
        sent.is_ok()
    }
}

fn text(states: &[NotifyState<'_>]) -> String {
    states.iter().flat_map(|state| [state.to_string(), "\n".into()]).collect()
}

/// A socket that does not wait.
fn connected(address: &OsString) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match address.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(address)?,
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(reader: &UnixDatagram) -> Vec<String> {
        let mut octets = [0; 256];
        let mut messages = Vec::new();
        while let Ok(length) = reader.recv(&mut octets) {
            messages.push(String::from_utf8_lossy(&octets[..length]).trim().to_owned());
        }
        messages
    }

    /// A manager that does not read, for a path and for an abstract name.
    #[test]
    fn who_does_not_read_is_not_waited_for_and_misses_nothing_that_matters() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let name = format!("flow-agent-notify-{}", std::process::id());
        let named = SocketAddr::from_abstract_name(&name).expect("a name");
        for (reader, address) in [
            (UnixDatagram::bind(&path).expect("free"), path.clone().into_os_string()),
            (UnixDatagram::bind_addr(&named).expect("free"), format!("@{name}").into()),
        ] {
            reader.set_nonblocking(true).expect("a socket");
            let mut notifications = Notifications::to(Some(address));
            let mut mentioned = 0;
            while notifications.mention(&[NotifyState::Watchdog]) {
                mentioned += 1;
                assert!(mentioned < 100_000, "the kernel takes no end of them");
            }
            notifications.say(&[NotifyState::Ready]);
            notifications.say(&[NotifyState::Stopping]);
            assert!(!notifications.flush() && notifications.trouble);
            assert!(!notifications.mention(&[NotifyState::Watchdog]), "not before what waits");
            assert_eq!(read_all(&reader).len(), mentioned);
            assert!(notifications.flush() && !notifications.trouble);
            assert!(notifications.mention(&[NotifyState::Watchdog]));
            assert_eq!(read_all(&reader), ["READY=1", "STOPPING=1", "WATCHDOG=1"]);
        }
    }

    #[test]
    fn what_waits_is_bounded_and_the_newest_stays() {
        let mut notifications = Notifications::to(Some("/nowhere/notify".into()));
        for _ in 0..100 {
            notifications.say(&[NotifyState::Reloading]);
            notifications.say(&[NotifyState::Ready]);
        }
        assert_eq!(notifications.waiting.len(), MOST);
        assert_eq!(notifications.waiting.back().map(String::as_str), Some("READY=1\n"));
        let mut nobody = Notifications::to(None);
        nobody.say(&[NotifyState::Ready]);
        assert!(nobody.waiting.is_empty() && nobody.mention(&[NotifyState::Watchdog]));
    }
}
