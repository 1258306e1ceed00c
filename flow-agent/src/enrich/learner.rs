//! The thread that looks at this host's sockets: which ports listen, and to which units they belong.
//!
//! Enters: the socket tables of the agent's namespace and of those whose interfaces are metered.
//! Leave: listeners, names of services, units by socket. It waits for nobody: news that nobody has
//! taken yet are told again at the next look.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};
use flow_common::key::protocol::UDP;
use foldhash::fast::FixedState;

use super::cgroups::Cgroups;
use super::interfaces::namespace_number;
use super::listeners::{Listener, Listeners, Seen, service_of_unit};
use super::service_names::ServiceNews;
use super::sockets::{LocalSocket, local_sockets};
use super::units::{SocketKey, UnitNews};
use crate::attach::{AttachError, NetworkNamespace};
use crate::names::NameBook;

/// Namespaces looked at.
const MOST_NAMESPACES: usize = 64;
/// A look may take so much of the time: one part in so many.
const SHARE: u32 = 20;

/// What the thread does.
pub struct LearnerConfig {
    /// Time between two looks.
    pub interval: Duration,
    /// How long a port is remembered after it was last seen; none: ports are not learned.
    pub listeners_ttl: Option<Duration>,
    /// How many sockets are remembered, and for how long units are believed; none: they are not
    /// learned.
    pub units: Option<(usize, Duration)>,
}

/// The thread's work.
pub struct Learner {
    /// What to do.
    pub config: LearnerConfig,
    /// Of the interfaces that are metered: they say which namespaces are looked at.
    pub names: NameBook,
    /// Where listening ports are kept.
    pub listeners: Listeners,
    /// Where names of services go.
    pub service_news: Sender<ServiceNews>,
    /// Where units of sockets go.
    pub unit_news: Sender<UnitNews>,
    /// Unix ns.
    pub wall_clock: fn() -> u64,
}

impl Learner {
    /// Starts the thread; it ends when the other end of `stop` is gone.
    ///
    /// # Errors
    /// The system refuses the thread.
    pub fn start(self, stop: Receiver<()>) -> io::Result<JoinHandle<()>> {
        let thread = thread::Builder::new().name("sockets".into());
        thread.spawn(move || Work::new(self).run(&stop))
    }
}

/// A socket that was told of: its unit, and when.
type Told = HashMap<SocketKey, (Arc<str>, Instant), FixedState>;

struct Work {
    learner: Learner,
    cgroups: Option<Cgroups>,
    told: Told,
    told_services: ServiceNews,
    warned: BTreeSet<String>,
}

impl Work {
    fn new(learner: Learner) -> Self {
        Self {
            learner,
            cgroups: Cgroups::of_host(),
            told: Told::default(),
            told_services: ServiceNews::default(),
            warned: BTreeSet::new(),
        }
    }

    fn run(mut self, stop: &Receiver<()>) {
        let interval = self.learner.config.interval;
        loop {
            let started = Instant::now();
            self.look(started);
            let pause = interval.max(started.elapsed() * SHARE);
            if stop.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    fn look(&mut self, now: Instant) {
        let mut listening = BTreeMap::new();
        let mut units = UnitNews::new();
        let now_s = (self.learner.wall_clock)() / 1_000_000_000;
        let ephemeral = ephemeral_ports();
        for prefix in self.namespaces() {
            let sockets = match self.sockets(&prefix) {
                Ok(sockets) => sockets,
                Err(error) => {
                    self.warn(&prefix, &error);
                    continue;
                }
            };
            if let Some(cgroups) = &mut self.cgroups {
                cgroups.learn(sockets.iter().map(|socket| socket.cgroup).filter(|id| *id != 0));
            }
            let namespace = namespace_number(&prefix);
            for socket in &sockets {
                let unit = self.cgroups.as_mut().and_then(|cgroups| cgroups.unit(socket.cgroup));
                // A UDP socket that got its port by chance is a client's.
                let by_chance = socket.protocol == UDP && ephemeral.contains(&socket.local_port);
                if socket.is_open() && !by_chance {
                    let (namespace, port) = (prefix.clone(), socket.local_port);
                    let listener = Listener { namespace, protocol: socket.protocol, port };
                    listening.insert(
                        listener,
                        Seen { unit: unit.as_deref().map(Into::into), at_s: now_s },
                    );
                }
                units.extend(unit.map(|unit| (key(socket, namespace), unit)));
            }
        }
        self.tell_listeners(listening, now_s);
        self.tell_units(units, now);
    }

    /// What stands before the names of interfaces, each once, the agent's own namespace first.
    fn namespaces(&self) -> BTreeSet<String> {
        let names = self.learner.names.current();
        let prefix =
            |name: &Arc<str>| name.rsplit_once('/').map(|(prefix, _)| format!("{prefix}/"));
        let others = names.interfaces().filter_map(prefix);
        std::iter::once(String::new()).chain(others).take(MOST_NAMESPACES).collect()
    }

    fn sockets(&self, prefix: &str) -> Result<Vec<LocalSocket>, AttachError> {
        let most = self.learner.config.units.map_or(super::listeners::MOST, |(most, _)| most);
        namespace(prefix).run(|| {
            local_sockets(most).map_err(|source| AttachError::Io {
                what: "the sockets of this host cannot be listed".into(),
                source,
            })
        })
    }

    /// A namespace that has gone is no news; what the kernel cannot do is said once.
    fn warn(&mut self, prefix: &str, error: &AttachError) {
        let gone = matches!(error, AttachError::Namespace { .. });
        if !gone && self.warned.len() < MOST_NAMESPACES && self.warned.insert(prefix.into()) {
            tracing::warn!("{error}; listening ports and units are not learned there");
        }
    }

    fn tell_listeners(&mut self, listening: BTreeMap<Listener, Seen>, now_s: u64) {
        let Some(ttl) = self.learner.config.listeners_ttl else { return };
        self.learner.listeners.add(listening, now_s, ttl);
        let all = self.learner.listeners.all();
        let names: ServiceNews = all
            .iter()
            .filter_map(|(listener, seen)| {
                let name = service_of_unit(seen.unit.as_deref()?)?;
                let namespace = namespace_number(&listener.namespace);
                Some(((namespace, listener.protocol, listener.port), name.into()))
            })
            .collect();
        if names != self.told_services && self.learner.service_news.try_send(names.clone()).is_ok()
        {
            self.told_services = names;
        }
    }

    /// Tells of what is new, and of the rest before it is too old to be believed.
    fn tell_units(&mut self, units: UnitNews, now: Instant) {
        let Some((_, ttl)) = self.learner.config.units else { return };
        let is_told = |key: &SocketKey, unit: &Arc<str>, told: &Told| {
            told.get(key).is_some_and(|(told, at)| told == unit && now - *at < ttl / 2)
        };
        let (old, new): (UnitNews, UnitNews) =
            units.into_iter().partition(|(key, unit)| is_told(key, unit, &self.told));
        if !new.is_empty() && self.learner.unit_news.try_send(new.clone()).is_err() {
            return;
        }
        let mut told = Told::default();
        for (key, _) in old {
            told.extend(self.told.remove_entry(&key));
        }
        told.extend(new.into_iter().map(|(key, unit)| (key, (unit, now))));
        self.told = told;
    }
}

fn key(socket: &LocalSocket, namespace: u32) -> SocketKey {
    SocketKey {
        local: socket.local,
        remote: socket.remote,
        namespace,
        local_port: socket.local_port,
        remote_port: socket.remote_port,
        protocol: socket.protocol,
    }
}

fn namespace(prefix: &str) -> NetworkNamespace {
    let name = prefix.trim_end_matches('/');
    let pid = name.strip_prefix("pid:").and_then(|pid| pid.parse().ok());
    match pid {
        Some(pid) => NetworkNamespace::Pid(pid),
        None if name.is_empty() => NetworkNamespace::Own,
        None => NetworkNamespace::Named(name.into()),
    }
}

/// The ports that the system gives to sockets that ask for none.
fn ephemeral_ports() -> RangeInclusive<u16> {
    const USUAL: RangeInclusive<u16> = 32_768..=60_999;
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let range = text.ok().and_then(|text| {
        let mut ports = text.split_whitespace().map(|port| port.parse().ok());
        Some(ports.next()??..=ports.next()??)
    });
    range.unwrap_or(USUAL)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use crossbeam::channel::bounded;
    use flow_common::key::protocol::TCP;

    use super::*;
    use crate::names::Names;

    struct Told {
        work: Work,
        services: Receiver<ServiceNews>,
        units: Receiver<UnitNews>,
    }

    fn work(tree: &std::path::Path) -> Told {
        let (service_news, services) = bounded(1);
        let (unit_news, units) = bounded(1);
        let learner = Learner {
            config: LearnerConfig {
                interval: Duration::from_secs(5),
                listeners_ttl: Some(Duration::from_secs(100)),
                units: Some((1 << 20, Duration::from_secs(100))),
            },
            names: NameBook::new(Names::new("host", &["eth0", "no-such-name/eth0"])),
            listeners: Listeners::default(),
            service_news,
            unit_news,
            wall_clock: || 7_000_000_000,
        };
        let work = Work { cgroups: Some(Cgroups::below(tree)), ..Work::new(learner) };
        Told { work, services, units }
    }

    #[test]
    fn listening_ports_are_learned_from_real_sockets() {
        let tree = tempfile::tempdir().expect("a folder");
        let Told { mut work, services, units } = work(tree.path());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let tcp = listener.local_addr().expect("bound").port();
        let chance = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let chance = chance.local_addr().expect("bound").port();
        work.look(Instant::now());
        let all = work.learner.listeners.all();
        let has = |protocol, port| {
            all.iter().any(|(known, _)| (known.protocol, known.port) == (protocol, port))
        };
        assert!(has(TCP, tcp));
        assert!(!has(UDP, chance), "a client's port");
        assert!(services.is_empty() && units.is_empty(), "the tree has no units");
    }

    #[test]
    fn units_are_told_once_and_again_before_they_are_too_old() {
        let tree = tempfile::tempdir().expect("a folder");
        let Told { mut work, units, .. } = work(tree.path());
        let key = |port| SocketKey {
            local: 1,
            remote: 2,
            namespace: 0,
            local_port: port,
            remote_port: 9,
            protocol: TCP,
        };
        let (web, mail): (Arc<str>, Arc<str>) = ("web.service".into(), "mail.service".into());
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let both = || vec![(key(1), web.clone()), (key(2), web.clone())];
        work.tell_units(both(), at(0));
        work.tell_units(both(), at(1));
        assert_eq!(units.try_iter().collect::<Vec<_>>(), [both()]);
        work.tell_units(vec![(key(1), mail.clone()), (key(2), web.clone())], at(2));
        assert_eq!(units.try_iter().collect::<Vec<_>>(), [vec![(key(1), mail.clone())]]);
        work.tell_units(vec![(key(1), mail.clone())], at(50));
        assert_eq!(work.told.len(), 1, "the other has gone");
        work.tell_units(vec![(key(1), mail.clone()), (key(2), web.clone())], at(53));
        assert_eq!(units.len(), 1, "one that is new, one that is old");
        work.tell_units(vec![(key(3), web.clone())], at(54));
        assert_eq!(units.try_iter().map(|news| news.len()).collect::<Vec<_>>(), [2]);
        work.tell_units(vec![(key(3), web.clone())], at(55));
        assert_eq!(units.try_iter().count(), 1, "nobody had taken the last news");
    }

    #[test]
    fn prefixes_are_namespaces() {
        assert_eq!(namespace(""), NetworkNamespace::Own);
        assert_eq!(namespace("pid:7/"), NetworkNamespace::Pid(7));
        assert_eq!(namespace("blue/"), NetworkNamespace::Named("blue".into()));
    }
}
