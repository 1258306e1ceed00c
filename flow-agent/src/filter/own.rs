//! The agent's own connections: told by the sink, known to the kernel side.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aya::maps::{HashMap, MapData, MapError};
use flow_common::filter::{ConnectionKey, MAX_OWN_CONNECTIONS, connection_key};
use flow_common::{Address, FlowKey};

use crate::sink::ConnectionWatch;

/// How long after its end packets of a connection may still come: two maximum
/// segment lifetimes, as Linux keeps TIME-WAIT.
const LINGER: Duration = Duration::from_secs(60);

/// The connections that are known; clones share them.
#[derive(Clone)]
pub struct OwnConnections(Arc<Mutex<Known>>);

struct Known {
    map: HashMap<MapData, ConnectionKey, u32>,
    /// Connections that have ended, and when.
    ended: VecDeque<(Instant, [ConnectionKey; 2])>,
    /// Open and ended ones.
    count: u32,
}

impl OwnConnections {
    /// Over the kernel side's table, which is empty.
    pub fn new(map: HashMap<MapData, ConnectionKey, u32>) -> Self {
        Self(Arc::new(Mutex::new(Known { map, ended: VecDeque::new(), count: 0 })))
    }

    fn with(&self, work: impl FnOnce(&mut Known) -> Result<(), MapError>) {
        // Every state between two statements is usable.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = work(&mut known) {
            tracing::warn!(
                "a connection of the agent may be metered: the kernel's table of own \
                 connections cannot be changed: {error}"
            );
        }
    }
}

impl ConnectionWatch for OwnConnections {
    fn opened(&self, local: SocketAddr, remote: SocketAddr, now: Instant) {
        let keys = keys(local, remote);
        self.with(|known| {
            known.forget_ended(now)?;
            // The same ports again: it has not ended any more.
            if let Some(position) = known.ended.iter().position(|(_, ended)| *ended == keys) {
                known.ended.remove(position);
                return Ok(());
            }
            known.count += 1;
            keys.iter().try_for_each(|key| known.map.insert(key, 1, 0))
        });
    }

    fn closed(&self, local: SocketAddr, remote: SocketAddr, now: Instant) {
        self.with(|known| {
            known.ended.push_back((now, keys(local, remote)));
            known.forget_ended(now)
        });
    }
}

impl Known {
    /// Removes those whose last packet has passed, and the oldest of too many.
    fn forget_ended(&mut self, now: Instant) -> Result<(), MapError> {
        while let Some((ended, keys)) = self.ended.front() {
            let over = now.saturating_duration_since(*ended) >= LINGER;
            if !over && self.count < MAX_OWN_CONNECTIONS {
                break;
            }
            let keys = *keys;
            self.ended.pop_front();
            self.count = self.count.saturating_sub(1);
            for key in &keys {
                match self.map.remove(key) {
                    Ok(()) | Err(MapError::KeyNotFound) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// The keys of both directions.
fn keys(local: SocketAddr, remote: SocketAddr) -> [ConnectionKey; 2] {
    let key = |src: SocketAddr, dst: SocketAddr| {
        connection_key(&FlowKey {
            src: address(src.ip()),
            dst: address(dst.ip()),
            src_port: src.port(),
            dst_port: dst.port(),
            ..FlowKey::default()
        })
    };
    [key(local, remote), key(remote, local)]
}

fn address(address: IpAddr) -> Address {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}
